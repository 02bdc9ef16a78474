"""The rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from qbrm.errors import InputError
from qbrm.preferences.files import most_unpacked, reading
from qbrm.preferences.quoting import one_line

# So few that a text of megabytes in every row, which a dictionary holds once, stays within memory.
BATCH_ROWS = 16


def parquet_rows(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] | None = None
) -> Iterator[tuple[int, object]]:
    """Each row as a dict of the required columns and, where they are there, the optional ones (None for all).

    Yields:
        The number of a row, counted from 1, and the row.

    Raises:
        InputError: if it is not Parquet, a required column is missing, one is there twice, or it unpacks to more than
            :func:`~qbrm.preferences.files.most_unpacked`.
    """
    number = 0
    with reading(path), path.open("rb") as stream:
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            columns = _columns(path, file.schema_arrow.names, required, optional)
            most = most_unpacked(path.stat().st_size)
            _check_size(path, _described_bytes(file, columns), most)
            unpacked = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                unpacked += sum(map(_decoded_bytes, batch.columns))
                _check_size(path, unpacked, most)
                for row in batch.to_pylist():
                    number += 1
                    yield number, {column: without_nulls(value) for column, value in row.items()}
        except (pyarrow.ArrowException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = one_line(error).rstrip(".")
            raise InputError(f"{one_line(path)}: {reason}; expected a sound Parquet file.") from error


def _described_bytes(file: Any, columns: Sequence[str]) -> int:
    """How many bytes its pages say they unpack to, dictionaries not looked up; at least four for a value."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    asked = (chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
    return sum(max(chunk.total_uncompressed_size, 4 * chunk.num_values) for chunk in asked)


def _decoded_bytes(column: Any) -> int:
    return int((column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column).nbytes)


def _check_size(path: Path, unpacked: int, most: int) -> None:
    if unpacked > most:
        raise InputError(f"{one_line(path)} unpacks to more than {most:,} bytes; expected at most 100 times its size.")


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
    asked = names if optional is None else [name for name in names if name in (*required, *optional)]
    for column in asked:
        if asked.count(column) > 1:
            raise InputError(f'{one_line(path)} has {asked.count(column)} columns "{column}"; expected one.')
    return asked
