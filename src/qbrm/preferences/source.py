"""Reading preferences from files, from records in memory, or from the bundled sample."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences.base import Preference, PreferenceSet
from qbrm.preferences.files import reading
from qbrm.preferences.jsonl import read_jsonl
from qbrm.preferences.parquet import read_parquet
from qbrm.preferences.quoting import one_line
from qbrm.preferences.records import read_records
from qbrm.preferences.rmb import read_rmb_file, read_rmb_tree

READERS: dict[str, Callable[[Path], tuple[Preference, ...]]] = {
    ".json": read_rmb_file,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
IN_MEMORY = "preferences"  # the name of a set that has no file
KINDS = "an RMB folder, or an RMB .json, .jsonl or .parquet file"


def read_preferences(source: str | Path) -> PreferenceSet:
    """Read a preference source.

    Args:
        source: an RMB tree (a folder with ``BoN_set/`` and/or ``Pairwise_set/``, or the folder above it), one RMB
            ``.json`` file, a ``.jsonl`` file of {"prompt", "chosen", "rejected"[, "category"][, "id"]}, or a
            ``.parquet`` file of the same columns.

    Returns:
        Its preferences in file order, named after the file or folder.

    Raises:
        InputError: if it is missing, empty, of another kind, unreadable or wrong anywhere inside; one line that names
            the place, the value and what was expected.
    """
    if not str(source).strip():
        raise InputError(f"the preference source is empty; expected {KINDS}.")
    path = Path(source)
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    read = read_rmb_tree if is_folder else READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{one_line(path)} is of no known kind; expected {KINDS}.")
    return PreferenceSet(path.name if path.name not in ("", "..") else path.resolve().name, read(path))


def preferences_of(source: str | Path | PreferenceSet | Iterable[Mapping[str, Any]]) -> PreferenceSet:
    """Preferences as given, from a path, or from records in memory such as the rows of a `datasets.Dataset`.

    Raises:
        InputError: if `source` is none of these, or a record (see :func:`read_preferences`) is not a preference.
    """
    if isinstance(source, PreferenceSet):
        return source
    if isinstance(source, (str, Path)):
        return read_preferences(source)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(
            f"preferences are a {type(source).__name__}; expected a path, a datasets.Dataset or a list of records."
        )
    return PreferenceSet(IN_MEMORY, read_records(Path(IN_MEMORY), "record", enumerate(source, start=1)))


def sample_source() -> Path:
    """The folder of the bundled sample set, an RMB tree."""
    return Path(str(files("qbrm").joinpath("sample")))
