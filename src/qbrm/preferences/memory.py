"""Preferences that are in memory already: a data set of `datasets`, or records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences.base import PreferenceSet
from qbrm.preferences.records import read_records
from qbrm.preferences.source import read_preferences

NAME = "preferences"


def preferences_of(source: str | Path | PreferenceSet | Iterable[Mapping[str, Any]]) -> PreferenceSet:
    """Preferences from a path, or from records in memory such as the rows of a `datasets.Dataset`.

    Args:
        source: what :func:`read_preferences` takes, a preference set, or {"prompt", "chosen", "rejected"[, "category"]}
            records.

    Raises:
        InputError: if it is none of these, or a record is not a preference.
    """
    if isinstance(source, PreferenceSet):
        return source
    if isinstance(source, (str, Path)):
        return read_preferences(source)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(
            f"preferences are a {type(source).__name__}; expected a path, a datasets.Dataset or a list of records."
        )
    return PreferenceSet(NAME, read_records(Path(NAME), "record", enumerate(source, start=1)))
