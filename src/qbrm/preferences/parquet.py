"""Parquet: one preference per row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from qbrm.errors import InputError
from qbrm.preferences.base import Preference
from qbrm.preferences.files import reading
from qbrm.preferences.quoting import one_line
from qbrm.preferences.records import OPTIONAL, REQUIRED, read_records


def read_parquet(path: Path) -> tuple[Preference, ...]:
    """Read a Parquet file of preferences; columns that are no part of one are left unread.

    Raises:
        InputError: if it is not Parquet, a column is missing, or a row is not a preference; names file, row and key.
    """
    with reading(path), path.open("rb") as stream:
        try:
            return read_records(path, "row", _rows(path, pyarrow.parquet.ParquetFile(stream)))
        except InputError:
            raise
        except (pyarrow.ArrowException, ValueError) as error:
            reason = one_line(error).rstrip(".")
            raise InputError(f"{one_line(path)}: {reason}; expected a sound Parquet file.") from error


def _rows(path: Path, file: pyarrow.parquet.ParquetFile) -> Iterator[tuple[int, object]]:
    batches = file.iter_batches(columns=_columns(path, file.schema_arrow.names))
    return enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def _columns(path: Path, names: list[str]) -> list[str]:
    for required in REQUIRED:
        if required not in names:
            found = one_line(", ".join(names)) or "none"
            raise InputError(
                f'{one_line(path)}: column "{required}" is missing; expected it beside those found: {found}.'
            )
    return [name for name in names if name in REQUIRED + OPTIONAL]
