"""JSONL: one preference per line. Blank lines and a byte order mark are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qbrm.preferences.base import Preference
from qbrm.preferences.files import parse_json, read_text
from qbrm.preferences.records import read_records


def read_jsonl(path: Path) -> tuple[Preference, ...]:
    """Read a JSONL file of preferences. Raises InputError if a line is not one; names file, line and key."""
    return read_records(path, "line", json_lines(path))


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """The value on each line that is not blank, with the number of that line.

    Raises:
        InputError: if the file cannot be read or a line is not JSON.
    """
    # JSON strings may hold U+2028 and its like, at which str.splitlines would cut a line in two.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, parse_json(line, path, number)
