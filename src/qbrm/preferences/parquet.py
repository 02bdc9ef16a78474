"""The rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from qbrm.errors import InputError
from qbrm.preferences.files import reading
from qbrm.preferences.quoting import one_line


def parquet_rows(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] | None = None
) -> Iterator[tuple[int, object]]:
    """Each row as a dict of the required columns and, where they are there, the optional ones (None for all).

    Yields:
        The number of a row, counted from 1, and the row.

    Raises:
        InputError: if it is not Parquet, or a required column is missing.
    """
    number = 0
    with reading(path), path.open("rb") as stream:
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            columns = _columns(path, file.schema_arrow.names, required, optional)
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {column: without_nulls(value) for column, value in row.items()}
        except (pyarrow.ArrowException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = one_line(error).rstrip(".")
            raise InputError(f"{one_line(path)}: {reason}; expected a sound Parquet file.") from error


def without_nulls(value: Any) -> Any:
    """A value without the keys that are null: Arrow gives every object in a column the keys of all others."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _columns(path: Path, names: list[str], required: Sequence[str], optional: Sequence[str] | None) -> list[str]:
    for column in required:
        if column not in names:
            present = one_line(", ".join(names)) or "none"
            raise InputError(
                f'{one_line(path)}: column "{column}" is missing; expected it beside those found: {present}.'
            )
    return names if optional is None else [name for name in names if name in (*required, *optional)]
