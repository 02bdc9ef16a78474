"""Download benchmarks by name, through the package ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qbrm.benchmarks.records import Record
from qbrm.errors import InputError
from qbrm.preferences.field import Field
from qbrm.preferences.hub import import_datasets, quiet_hub
from qbrm.preferences.quoting import one_line


def hub_records(repository: str, split: str, columns: Sequence[str], **where: str) -> Iterator[Record]:
    """Every row of one split of a data set on the Hugging Face Hub.

    Args:
        repository: owner and name.
        split: name of the split.
        columns: what is read of it, if it is there.
        where: more arguments of ``datasets.load_dataset``, such as ``data_dir``.

    Raises:
        InputError: if ``datasets`` is not installed, or the data set cannot be reached.
    """
    datasets = _import_datasets()
    with _reaching(repository, datasets):
        rows = datasets.load_dataset(repository, split=split, **where)
        rows = rows.select_columns([name for name in rows.column_names if name in columns])
    place = "/".join([repository, *where.values(), split])
    for number, row in enumerate(rows, start=1):
        yield Record(Field(f"{place}, row {number}", "", row), Path(place), number)


def download_archive(url: str) -> Path:
    """Download an archive once, and unpack it in a folder in the cache of ``datasets``.

    Raises:
        InputError: if ``datasets`` is not installed, or the archive cannot be reached.
    """
    datasets = _import_datasets()
    with _reaching(url, datasets):
        return Path(datasets.DownloadManager().download_and_extract(url))


def _import_datasets() -> Any:
    return import_datasets("a benchmark by name, unless a path is given as NAME:PATH,")


@contextmanager
def _reaching(what: str, datasets: Any) -> Iterator[None]:
    """Turn a failure into one line."""
    with quiet_hub():
        try:
            yield
        except (OSError, ValueError, ImportError, datasets.exceptions.DatasetsError) as error:
            failure = f"{what} cannot be downloaded ({one_line(str(error.__cause__ or error).rstrip('.'), 120)})"
            raise InputError(f"{failure}; expected a network, or a path as NAME:PATH.") from error
