"""Prompts and responses without labels: records of {"prompt", "responses"} or "response", or preferences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.base import Preference, PreferenceSet, as_response
from qbrm.preferences.conversation import read_message, read_prompt
from qbrm.preferences.field import Field
from qbrm.preferences.files import kind_of
from qbrm.preferences.labels import UNCATEGORISED
from qbrm.preferences.memory import memory_rows
from qbrm.preferences.records import read_record
from qbrm.preferences.rows import Row, file_rows
from qbrm.preferences.source import FILES, SKIP, preferences_of

Unlabelled: TypeAlias = "str | Path | PreferenceSet | Iterable[Mapping[str, Any]]"

IN_MEMORY = "responses to keep"  # the name of a set that has no file
KEYS = ("responses", "response")


def responses_of(source: Unlabelled, *, skip_bad: bool = False) -> PreferenceSet:
    """Read prompts and responses from any preference source, whose labels are ignored, or from records without labels.

    Args:
        source: preferences, or whatever :func:`~qbrm.preferences.preferences_of` reads; or a JSON, JSONL or Parquet
            file, or a list, of {"prompt", "responses"} or {"prompt", "response"}, where a prompt may occur again.
        skip_bad: whether rows that are neither are left out, and counted in `PreferenceSet.left_out`.

    Returns:
        A row each, in order, in which the first response stands as the chosen one; that means nothing.

    Raises:
        InputError: if the source is not usable, or holds rows that are neither; names the first twenty of them.
    """
    if isinstance(source, PreferenceSet):
        return source
    if not isinstance(source, (str, Path)):
        return _read(IN_MEMORY, source, list(memory_rows(source, IN_MEMORY)), skip_bad=skip_bad)
    path = Path(source)
    if kind_of(path) in FILES and path.is_file():
        return _read(path.name, source, list(file_rows(path)), skip_bad=skip_bad)
    return preferences_of(source, skip_bad=skip_bad)


def _read(name: str, source: Any, rows: list[Row], *, skip_bad: bool) -> PreferenceSet:
    """Read rows of which some have no labels; others are left to those who read preferences."""
    if not any(_is_unlabelled(row.field) for row in rows):
        in_memory: list[Any] = [row.field.value for row in rows]
        return preferences_of(source if isinstance(source, (str, Path)) else in_memory, skip_bad=skip_bad)
    rejects = Rejects()
    read = tuple(rejects.read(rows, _read_row))
    if not (read and skip_bad):
        rejects.check(name, len(read), SKIP if read else "")
    return PreferenceSet(name, read, dict(rejects.kinds.most_common()))


def _is_unlabelled(field: Field) -> bool:
    return isinstance(field.value, dict) and "chosen" not in field.value and any(key in field.value for key in KEYS)


def _read_row(row: Row) -> Preference:
    """The prompt and the responses of one row, with or without labels. Raises BadRowError if it has none."""
    record = row.field
    if row.fault is not None:
        raise row.fault
    if isinstance(record.value, dict) and "chosen" in record.value:
        return read_record(row)
    if not _is_unlabelled(record):
        raise record.refused('an object with "prompt" and "responses" or "response"')
    several = record.child("responses")
    fields = [record.child("response")] if several.absent else several.elements("one or more responses")
    prompt, (first, *others) = read_prompt(record.child("prompt")), map(_response, fields)
    return Preference(row.name, prompt, first, tuple(others), UNCATEGORISED, "bon", record.place)


def _response(field: Field) -> str:
    if isinstance(field.value, str):
        return field.text()
    if isinstance(field.value, dict):
        return as_response((read_message(field),))
    messages = field.elements("a non-empty string or a list of chat messages")
    return as_response(tuple(map(read_message, messages)))
