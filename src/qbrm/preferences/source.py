"""Reading preferences, whatever they are kept in."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from qbrm.errors import InputError
from qbrm.preferences.base import Preference, PreferenceSet
from qbrm.preferences.files import reading
from qbrm.preferences.jsonl import read_jsonl
from qbrm.preferences.parquet import read_parquet
from qbrm.preferences.quoting import one_line
from qbrm.preferences.rmb import read_rmb_file, read_rmb_tree

READERS: dict[str, Callable[[Path], tuple[Preference, ...]]] = {
    ".json": read_rmb_file,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
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
    read = read_rmb_tree if _is_folder(path) else READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{one_line(path)} is of no known kind; expected {KINDS}.")
    return PreferenceSet(path.name if path.name not in ("", "..") else path.resolve().name, read(path))


def _is_folder(path: Path) -> bool:
    with reading(path):
        return stat.S_ISDIR(path.stat().st_mode)
