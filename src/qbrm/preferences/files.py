"""Opening files: every way in which that can fail becomes one `InputError`."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from qbrm.errors import BadRowError, InputError
from qbrm.preferences.quoting import one_line

PACKED = ".gz"
NO_JSON = "the line is not JSON"
# Bytes of one line, of a JSON file, which is read as a whole, and up to which a file may become any multiple of itself.
LONGEST_LINE, LARGEST_JSON, SMALL = 64 * 2**20, 2**30, 64 * 2**20


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into an `InputError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{one_line(path)} does not exist; expected a preference source.") from error
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise InputError(f"{one_line(path)} cannot be read ({reason}); expected a readable file or folder.") from error


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        InputError: if there is nothing.
    """
    with reading(path):
        return stat.S_ISDIR(path.stat().st_mode)


def kind_of(path: Path) -> str:
    """The suffix of a file, in small letters and without ``.gz``."""
    name = path.name.lower()
    return Path(name.removesuffix(PACKED)).suffix


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; of a ``.gz`` file, the text packed in it.

    Raises:
        InputError: if it cannot be read, is empty, too large or not UTF-8; the last names the line.
    """
    with reading(path):
        opening = gzip.open if path.suffix.lower() == PACKED else open
        with _unpacking(path), opening(path, "rb") as stream:
            content = stream.read(_most(path) + 1)
    if len(content) > _most(path):
        raise _too_large(path)
    if not content.strip():
        raise _empty(path)
    return decode(content, path)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers; of a ``.gz`` file, the lines packed in it.

    They come one by one, so that memory does not grow with the file; a byte order mark is taken off the first.

    Raises:
        InputError: if the file cannot be read, is empty, has a line of more than `LONGEST_LINE` bytes, or unpacks to
            more than :func:`most_unpacked`.
    """
    opening = gzip.open if path.suffix.lower() == PACKED else open
    blank = True
    with reading(path), _unpacking(path), opening(path, "rb") as stream:
        number, unpacked, most = 0, 0, most_unpacked(path.stat().st_size) if opening is gzip.open else None
        while line := stream.readline(LONGEST_LINE + 1):
            number, unpacked = number + 1, unpacked + len(line)
            if len(line) > LONGEST_LINE:
                where = f"{one_line(path)}, line {number}"
                raise InputError(f"{where} is longer than {LONGEST_LINE:,} bytes; expected one preference on a line.")
            if most is not None and unpacked > most:
                raise _too_large(path)
            blank = blank and not line.strip()
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield number, text.rstrip(b"\r\n")
    if blank:
        raise _empty(path)


def decode(content: bytes, path: Path, first_line: int = 1) -> str:
    """UTF-8 text that starts on `first_line` of a file, without a byte order mark.

    Raises:
        BadRowError: if it is not UTF-8; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        byte = f"byte 0x{content[error.start]:02x}"
        place = f"{one_line(path)}, line {line}"
        raise BadRowError(f"{place}: {byte} is not UTF-8; expected UTF-8 text.", "the line is not UTF-8") from error


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = one_line(error)
        raise InputError(f"{one_line(path)} cannot be unpacked ({reason}); expected a gzip file.") from error


def most_unpacked(size: int) -> int:
    """How many bytes a packed file of so many may become: text seldom becomes ten times as many."""
    return max(SMALL, 100 * size)


def _most(path: Path) -> int:
    """How many bytes of a file may be in memory at once."""
    packed = path.suffix.lower() == PACKED
    return min(LARGEST_JSON, most_unpacked(path.stat().st_size)) if packed else LARGEST_JSON


def _too_large(path: Path) -> InputError:
    many = f"{_most(path):,} bytes"
    if path.suffix.lower() == PACKED and _most(path) < LARGEST_JSON:
        return InputError(f"{one_line(path)} unpacks to more than {many}; expected at most 100 times its size.")
    return InputError(f"{one_line(path)} has more than {many}; expected JSONL for as many preferences.")


def _empty(path: Path) -> InputError:
    return InputError(f"{one_line(path)} is empty; expected preferences.")


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of JSON text that starts on `first_line` of a file.

    Raises:
        BadRowError: if it is not JSON; names the line and column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{one_line(path)}, line {first_line + error.lineno - 1}"
        fault = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise BadRowError(f"{place}: {fault}; expected valid JSON.", NO_JSON) from error
    except (ValueError, RecursionError) as error:
        fault = "nested too deep, or has a number of thousands of digits"
        place = f"{one_line(path)}, from line {first_line}"
        raise BadRowError(f"{place}: {fault}; expected ordinary JSON.", NO_JSON) from error


def find_files(folder: Path, *suffixes: str) -> list[Path]:
    """All files under `folder` with one of the suffixes, hidden ones left out, sorted by their path.

    Raises:
        InputError: if the folder or one inside it cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    paths = []
    with reading(folder):
        for parent, folders, names in os.walk(folder, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in suffixes)
