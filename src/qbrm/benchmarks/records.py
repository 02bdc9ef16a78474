"""The records of JSON, JSONL and Parquet files, each with the place it stands at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import BadRowError
from qbrm.preferences.base import Prompt
from qbrm.preferences.conversation import read_conversation, read_prompt
from qbrm.preferences.field import Field
from qbrm.preferences.labels import read_uid
from qbrm.preferences.rows import file_rows
from qbrm.preferences.shards import origin


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        field: what it holds, and where.
        origin: the file, without a data set's shard number and suffixes: ``data/filtered`` of
            ``data/filtered-00000-of-00001.parquet``.
        number: line, row or item, counted from 1.
        fault: why it holds nothing; None where it holds something.
    """

    field: Field
    origin: Path
    number: int
    fault: BadRowError | None = None

    def child(self, key: str) -> Field:
        """The field at `key`."""
        return self.field.child(key)

    def uid(self) -> str:
        """The field ``id``; without one, file and number."""
        field = self.child("id")
        return f"{self.origin.name}:{self.number}" if field.absent else read_uid(field)

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


def read_file(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """Every record of a file.

    Args:
        path: a JSON list, JSONL, packed or not, or Parquet.
        columns: what is read of Parquet; all if None.

    Raises:
        InputError: if the file is none of these or unsound.
    """
    for row in file_rows(path, columns):
        is_object = row.fault is not None or isinstance(row.field.value, dict)
        fault = row.fault if is_object else row.field.refused("an object")
        yield Record(row.field, origin(path), row.number, fault)
