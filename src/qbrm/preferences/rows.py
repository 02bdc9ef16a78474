"""The rows of JSON, JSONL and Parquet files, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import BadRowError, InputError
from qbrm.preferences.field import Field
from qbrm.preferences.files import decode, kind_of, parse_json, read_lines, read_text
from qbrm.preferences.parquet import parquet_rows
from qbrm.preferences.quoting import one_line

SUFFIXES = (".json", ".jsonl", ".gz", ".parquet")
KINDS = ".json, .jsonl, .json.gz, .jsonl.gz or .parquet"


class Row(NamedTuple):
    """One row of a file or data set.

    Attributes:
        field: what it holds, and where.
        file: name of the file or data set.
        number: line, row or item, counted from 1.
        fault: why it has no value; None where it has one.
    """

    field: Field
    file: str
    number: int
    fault: BadRowError | None = None

    @property
    def name(self) -> str:
        """What it is called without an id, as in ``prefs.jsonl:12``."""
        return f"{self.file}:{self.number}"


def numbered(path: Path | str, unit: str, values: Iterator[tuple[int, object]]) -> Iterator[Row]:
    """Values with their numbers as rows.

    Args:
        path: the file, or the name of a data set.
        unit: what the numbers count, as "line" does in line 12.
        values: number and value, or the `BadRowError` that stands in for one.
    """
    file = path.name if isinstance(path, Path) else path
    for number, value in values:
        fault = value if isinstance(value, BadRowError) else None
        yield Row(Field(f"{one_line(path)}, {unit} {number}", "", value), file, number, fault)


def file_rows(path: Path, columns: Sequence[str] | None = None, required: Sequence[str] = ()) -> Iterator[Row]:
    """Every row of a file.

    Args:
        path: a JSON list, JSONL, packed or not, or Parquet.
        columns: what is read of Parquet beside what is required; all if None.
        required: columns that Parquet has to have.

    Raises:
        InputError: if the file is none of these or unsound.
    """
    kind = kind_of(path)
    if kind == ".jsonl":
        return numbered(path, "line", json_lines(path))
    if kind == ".json":
        return _json_rows(path)
    if path.suffix.lower() == ".parquet":
        return numbered(path, "row", parquet_rows(path, required, columns))
    raise InputError(f"{one_line(path)} is of no known kind; expected {KINDS}.")


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """The value on each line that is not blank, with the number of that line; a `BadRowError` where it is not JSON.

    Raises:
        InputError: if the file cannot be read.
    """
    for number, line in read_lines(path):
        try:
            yield number, parse_json(decode(line, path, number), path, number)
        except BadRowError as fault:
            yield number, fault


def _json_rows(path: Path) -> Iterator[Row]:
    """The items of a list, or the lines of a file of that name that is JSONL in truth."""
    if _holds_lines(path):
        return numbered(path, "line", json_lines(path))
    content = Field(one_line(path), "", parse_json(read_text(path), path))
    items = content.elements("a list of RMB items or of other preferences")
    return numbered(path, "item", ((number, item.value) for number, item in enumerate(items, start=1)))


def _holds_lines(path: Path) -> bool:
    """Whether the first line is an object by itself, and either more lines follow or it is a preference."""
    (_, first), (second, _) = islice(chain(json_lines(path), ((0, None), (0, None))), 2)
    return isinstance(first, dict) and (second > 0 or isinstance(first.get("chosen"), (str, list)))
