"""Rows in memory: records, a ``datasets.Dataset``, a pandas ``DataFrame``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences.parquet import without_nulls
from qbrm.preferences.rows import Row, numbered

IN_MEMORY = "preferences"  # the name of a set that has no file
MISSING_TYPES = ("NAType", "NaTType")  # what pandas has for missing values beside NaN


def memory_rows(source: Iterable[Mapping[str, Any]], name: str = IN_MEMORY) -> Iterator[Row]:
    """The rows of a source, which messages call by `name`.

    Raises:
        InputError: if it is nothing that has rows.
    """
    from_table = hasattr(source, "columns") or hasattr(source, "features")
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        source = source.to_dict("records")
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(
            f"{name} are a {type(source).__name__}; expected a path, a datasets.Dataset, a pandas DataFrame or a "
            "list of records."
        )
    values = (without_nulls(plain(record)) if from_table else plain(record) for record in source)
    return numbered(name, "record", enumerate(values, start=1))


def plain(value: Any) -> Any:
    """A value as JSON would have it, made of Python's own types: NumPy's arrays and numbers are told what they hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if type(value).__name__ in MISSING_TYPES else value
