"""The records of JSON, JSONL and Parquet files, each with the place it stands at."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.preferences.base import Prompt
from qbrm.preferences.conversation import read_conversation, read_prompt
from qbrm.preferences.field import MISSING, Field
from qbrm.preferences.files import find_files, parse_json, read_text, reading
from qbrm.preferences.jsonl import json_lines
from qbrm.preferences.labels import read_uid
from qbrm.preferences.parquet import parquet_rows
from qbrm.preferences.quoting import one_line

SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        field: what it holds, and where.
        origin: the file, without a data set's shard number and suffixes: ``data/filtered`` of
            ``data/filtered-00000-of-00001.parquet``.
        number: line, row or item, counted from 1.
    """

    field: Field
    origin: Path
    number: int

    def child(self, key: str) -> Field:
        """The field at `key`."""
        return self.field.child(key)

    def uid(self) -> str:
        """The field ``id``; without one, file and number."""
        field = self.child("id")
        return f"{self.origin.name}:{self.number}" if field.value in (MISSING, None) else read_uid(field)

    def prompt(self) -> Prompt:
        """The field ``prompt``: a string, or a list of chat messages of which some may be empty."""
        field = self.child("prompt")
        return read_prompt(field) if isinstance(field.value, str) else read_conversation(field)

    def text(self, key: str) -> str:
        """The text at `key`, which may be empty: published benchmarks have empty answers."""
        return self.child(key).string()

    def texts(self, key: str) -> tuple[str, ...]:
        """One or more texts at `key`: a string, or a list of them."""
        field = self.child(key)
        parts = [field] if isinstance(field.value, str) else field.elements("a string or a list of strings")
        return tuple(part.string() for part in parts)

    def one_of(self, key: str, known: Collection[str]) -> str:
        """The text at `key`, if it is a known one."""
        field = self.child(key)
        if field.text() not in known:
            raise field.refused(f"one of {', '.join(sorted(known))}")
        return field.text()


def source_files(folder: Path) -> list[Path]:
    """All files of a folder that can hold records, sorted by their path.

    Raises:
        InputError: if there is none, or the folder cannot be read.
    """
    files = [path for suffix in (".json", ".jsonl", ".gz", ".parquet") for path in find_files(folder, suffix)]
    if not files:
        raise InputError(f"{one_line(folder)} holds no .json, .jsonl, .jsonl.gz or .parquet file; expected some.")
    return sorted(files)


def is_folder(source: Path) -> bool:
    """Whether a source is a folder.

    Raises:
        InputError: if there is nothing.
    """
    with reading(source):
        return stat.S_ISDIR(source.stat().st_mode)


def read_file(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """Every record of a file.

    Args:
        path: a JSON list, JSONL, packed or not, or Parquet.
        columns: what is read of Parquet; all if None.

    Raises:
        InputError: if the file is none of these or unsound, or a record is no object.
    """
    unit, records = _numbered(path, columns)
    for number, value in records:
        field = Field(f"{one_line(path)}, {unit} {number}", "", value)
        if not isinstance(value, dict):
            raise field.refused("an object")
        yield Record(field, origin(path), number)


def origin(path: Path) -> Path:
    """A file without its suffixes and shard number."""
    name = path.name.removesuffix(".gz")
    return path.with_name(SHARD.sub("", Path(name).stem))


def _numbered(path: Path, columns: Sequence[str] | None) -> tuple[str, Iterator[tuple[int, object]]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".jsonl":
        return "line", json_lines(path)
    if suffix == ".json":
        return "item", _json_list(path)
    if suffix == ".parquet":
        return "row", parquet_rows(path, (), columns)
    raise InputError(f"{one_line(path)} is of no known kind; expected .json, .jsonl, .jsonl.gz or .parquet.")


def _json_list(path: Path) -> Iterator[tuple[int, object]]:
    content = Field(one_line(path), "", parse_json(read_text(path), path))
    return ((number, field.value) for number, field in enumerate(content.elements("a list of objects"), start=1))
