"""The JSON files that a study leaves: written whole, read back as typed values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.errors import DamagedFileError, InputError
from qbrm_lab.results import as_json, parsed

SCHEMA = 1
Content = TypeVar("Content")


def write_json(path: Path, content: Any) -> None:
    """Write a dataclass, and the number of its schema.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(path.parent)
    text = json.dumps({"schema": SCHEMA, **as_json(content)}, ensure_ascii=False, allow_nan=False, indent=1)
    write_atomically(path, text.encode() + b"\n")


def read_json(path: Path, kind: type[Content]) -> Content:
    """Read what :func:`write_json` wrote.

    Raises:
        InputError: if the file is not JSON, or lacks something of that dataclass.
    """
    try:
        content: Content = parsed(json.loads(read_checked(path)), kind)
    except DamagedFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}.") from error
    return content
