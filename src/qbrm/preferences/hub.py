"""Data sets by name, through the package ``datasets``, and folders that it saved."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from qbrm.errors import InputError
from qbrm.preferences.parquet import without_nulls
from qbrm.preferences.quoting import one_line
from qbrm.preferences.rows import Row, numbered
from qbrm.preferences.shards import chosen_split

DEFAULT_SPLIT = "train"
PART = r"\w[\w.-]*"
NAME = re.compile(rf"(?P<name>{PART}/{PART})(:(?P<config>{PART}))??(:(?P<split>[^:]+))?")
SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk of datasets leaves in a folder


class DatasetName(NamedTuple):
    """A data set by name: ``OWNER/NAME``, ``OWNER/NAME:SPLIT`` or ``OWNER/NAME:CONFIGURATION:SPLIT``."""

    name: str
    split: str = DEFAULT_SPLIT
    config: str | None = None

    @classmethod
    def parse(cls, source: str) -> DatasetName | None:
        """The name that a source is, or None if it is none."""
        match = NAME.fullmatch(source)
        return match and cls(match["name"], match["split"] or DEFAULT_SPLIT, match["config"])

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.config, self.split) if part)


def load_named(asked: DatasetName, source: str) -> Any:
    """One split of a data set on the Hugging Face Hub, or in the cache of ``datasets``; `source` is as it was typed.

    Raises:
        InputError: if ``datasets`` is not installed, or the data set cannot be loaded.
    """
    datasets = import_datasets(f"{source} is no path that exists, and as a data set by name it")
    config = [] if asked.config is None else [asked.config]
    with quiet_hub():
        try:
            return datasets.load_dataset(asked.name, *config, split=asked.split)
        except Exception as error:  # whatever a data set's host, its files or its format may raise
            reason = one_line(str(error).rstrip("."), 160) or type(error).__name__
            raise InputError(
                f"{one_line(source)} is neither a path that exists nor a data set that can be loaded ({reason}); "
                "expected a path, or a data set as OWNER/NAME:SPLIT."
            ) from error


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of ``datasets`` wrote a folder."""
    return any((folder / name).is_file() for name in SAVED)


def load_saved(folder: Path, split: str | None = None) -> Any:
    """One split of a data set that ``save_to_disk`` wrote.

    Raises:
        InputError: if ``datasets`` is not installed, the folder cannot be read, has no such split, or has several and
            none is asked for.
    """
    datasets = import_datasets(f"{one_line(folder)} was written by save_to_disk; reading it")
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # as above
        reason = one_line(str(error).rstrip("."), 160)
        raise InputError(f"{one_line(folder)} cannot be read ({reason}); expected what save_to_disk wrote.") from error
    splits = dict(saved) if isinstance(saved, datasets.DatasetDict) else {saved.split and str(saved.split): saved}
    return splits[chosen_split(folder, list(splits), split)]


def dataset_rows(name: str, dataset: Any, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a ``datasets.Dataset``, of which those columns are read that it has."""
    found = dataset.column_names or []  # a stream may not know them
    rows = dataset.select_columns([column for column in found if column in columns]) if found else dataset
    return numbered(name, "row", ((number, without_nulls(row)) for number, row in enumerate(rows, start=1)))


def import_datasets(needed: str) -> Any:
    """The package ``datasets``.

    Raises:
        InputError: if it is not installed; begins with what needs it.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{needed} needs the package datasets; pip install 'qbrm[benchmarks]'.") from error
    return datasets


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence what the hub's own package says about its retries."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    verbosity = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(verbosity)
