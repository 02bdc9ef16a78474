"""Opening files: every way in which that can fail becomes one `InputError`."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from qbrm.errors import InputError
from qbrm.preferences.quoting import one_line


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


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; of a ``.gz`` file, the text packed in it.

    Raises:
        InputError: if it cannot be read, is empty or is not UTF-8; the last names the line.
    """
    with reading(path):
        content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            reason = one_line(error)
            raise InputError(f"{one_line(path)} cannot be unpacked ({reason}); expected a gzip file.") from error
    if not content.strip():
        raise InputError(f"{one_line(path)} is empty; expected preferences.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise InputError(f"{one_line(path)}, line {line}: {byte} is not UTF-8; expected UTF-8 text.") from error


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of JSON text that starts on `first_line` of a file.

    Raises:
        InputError: if it is not JSON; names the line and column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{one_line(path)}, line {first_line + error.lineno - 1}"
        raise InputError(f"{place}: {error.msg} at column {error.colno}; expected valid JSON.") from error
    except (ValueError, RecursionError) as error:
        fault = "nested too deep, or has a number of thousands of digits"
        raise InputError(f"{one_line(path)}, from line {first_line}: {fault}; expected ordinary JSON.") from error


def find_files(folder: Path, suffix: str) -> list[Path]:
    """All files under `folder` with that suffix, hidden ones left out, sorted by their path.

    Raises:
        InputError: if the folder or one inside it cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    with reading(folder):
        paths = [Path(parent, name) for parent, _, names in os.walk(folder, onerror=fail) for name in names]
    return sorted(path for path in paths if path.suffix.lower() == suffix and not path.name.startswith("."))
