"""Several responses to one prompt, of which one is chosen: with a gold value each, or from best-of-n preferences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qbrm.errors import InputError
from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.base import Preference, PreferenceSet, Prompt, prompt_id
from qbrm.preferences.conversation import read_prompt
from qbrm.preferences.field import Field
from qbrm.preferences.files import kind_of
from qbrm.preferences.labels import UNCATEGORISED
from qbrm.preferences.memory import memory_rows
from qbrm.preferences.rows import Row, file_rows
from qbrm.preferences.source import FILES, preferences_of

CandidateSource: TypeAlias = "str | Path | PreferenceSet | Iterable[Mapping[str, Any]]"

IN_MEMORY = "candidates"  # the name of lists that have no file
KEY = "candidates"
NUMBER = {1: "one", 2: "two"}


@dataclass(frozen=True)
class CandidateList:
    """The candidates for one prompt.

    Attributes:
        prompt: the conversation up to the response.
        responses: the candidates' texts.
        gold: what each is worth by a judge; of preferences, 1 for the chosen one and 0 for the others.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    gold: tuple[float, ...]

    @property
    def prompt_id(self) -> str:
        """Content hash of the prompt."""
        return prompt_id(self.prompt)


def read_candidates(source: CandidateSource, fewest: Literal[1, 2] = 1) -> list[CandidateList]:
    """Read lists of candidates.

    Args:
        source: a JSON, JSONL or Parquet file, packed or not, or a list, of {"prompt", "candidates": [{"response",
            "gold"}]}; or preferences, as :func:`~qbrm.preferences.preferences_of` reads them, of which those with
            several rejected responses are taken.
        fewest: candidates that each prompt has to have.

    Raises:
        InputError: if the source is not usable or has bad rows, the first twenty of which are named, or none of its
            preferences has several rejected responses.
    """
    name, rows = _named_rows(source)
    if any(_has_candidates(row.field) for row in rows):
        rejects = Rejects()
        lists = list(rejects.read(rows, partial(_read_row, fewest=fewest)))
        rejects.check(name, len(lists))
        return lists
    stored = isinstance(source, (str, Path, PreferenceSet))
    as_given: Any = source if stored else [row.field.value for row in rows]  # an iterator is used up by now
    preferences = preferences_of(as_given)
    lists = [_of_preference(preference) for preference in preferences if preference.set == "bon"]
    if not lists:
        told = f"{preferences.name} has {len(preferences)} preferences, none with several rejected responses"
        raise InputError(f"{told}; expected best-of-n preferences, or records of prompt and candidates.")
    return lists


def as_preferences(lists: Sequence[CandidateList], name: str) -> PreferenceSet:
    """The same prompts and responses as a preference set, by which features are built; its labels mean nothing."""
    return PreferenceSet(
        name,
        tuple(
            Preference(f"{name}:{number}", one.prompt, one.responses[0], one.responses[1:], UNCATEGORISED, "bon")
            for number, one in enumerate(lists, start=1)
        ),
    )


def _named_rows(source: CandidateSource) -> tuple[str, list[Row]]:
    """The rows of a file or of records in memory; none of what only preferences can be read from."""
    if isinstance(source, PreferenceSet):
        return source.name, []
    if not isinstance(source, (str, Path)):
        return IN_MEMORY, list(memory_rows(source, IN_MEMORY))
    path = Path(source)
    readable = kind_of(path) in FILES and path.is_file()
    return path.name, list(file_rows(path)) if readable else []


def _has_candidates(field: Field) -> bool:
    return isinstance(field.value, dict) and KEY in field.value


def _read_row(row: Row, fewest: Literal[1, 2]) -> CandidateList:
    """Raises BadRowError if a row has no prompt or too few candidates."""
    if row.fault is not None:
        raise row.fault
    if not isinstance(row.field.value, dict):
        raise row.field.refused('an object with "prompt" and "candidates"')
    prompt = read_prompt(row.field.child("prompt"))
    field, expected = row.field.child(KEY), f'{NUMBER[fewest]} or more objects with "response" and "gold"'
    candidates = field.elements(expected)
    if len(candidates) < fewest:
        raise field.refused(expected, "has one candidate", "a prompt has one candidate")
    responses = tuple(candidate.child("response").string() for candidate in candidates)
    return CandidateList(prompt, responses, tuple(_gold(candidate.child("gold")) for candidate in candidates))


def _gold(field: Field) -> float:
    value = field.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise field.refused("a finite number")
    return float(value)


def _of_preference(preference: Preference) -> CandidateList:
    others = tuple(dict.fromkeys(text for text in preference.rejected if text != preference.chosen))
    return CandidateList(preference.prompt, (preference.chosen, *others), (1.0, *(0.0 for _ in others)))
