"""Reading preferences from files, from data sets by name, from records in memory, or from the bundled sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.base import Preference, PreferenceSet
from qbrm.preferences.files import is_folder, kind_of
from qbrm.preferences.hub import DatasetName, dataset_rows, is_saved, load_named, load_saved
from qbrm.preferences.memory import IN_MEMORY, memory_rows
from qbrm.preferences.quoting import one_line
from qbrm.preferences.records import ANSWERS, COLUMNS, read_records
from qbrm.preferences.rmb import is_rmb, read_rmb_rows, read_rmb_tree, rmb_root
from qbrm.preferences.rows import file_rows
from qbrm.preferences.shards import shards

FILES = (".json", ".jsonl", ".parquet")
KINDS = (
    "an RMB folder, or a .json, .jsonl, .json.gz, .jsonl.gz or .parquet file, or a folder of such, or OWNER/NAME:SPLIT "
    "of a data set"
)

SKIP = "Bad rows are left out with --skip-bad, in Python skip_bad=True."

Reader = Callable[[Rejects], Iterator[Preference]]


def read_preferences(source: str | Path, *, skip_bad: bool = False) -> PreferenceSet:
    """Read a preference source.

    A row has the answers ``chosen`` and ``rejected`` (or several rejected ones), and may have ``prompt``, ``category``
    and ``id``. Answers are strings, or lists of chat messages. The prompt is a string or a list of chat messages; where
    there is none, it is what the answers begin with: messages that they share, or shared turns of transcripts as
    Anthropic publishes them.

    Args:
        source: a JSON list, a JSONL file, one of these packed with gzip, or a Parquet file; a folder of such, with
            ``:SPLIT`` behind it if it holds several; an RMB tree (a folder with ``BoN_set/`` and/or ``Pairwise_set/``,
            or the folder above it) or one of its files; a folder that ``save_to_disk`` of ``datasets`` wrote; or the
            name of a data set on the Hugging Face Hub, as ``OWNER/NAME[[:CONFIGURATION]:SPLIT]``, by default its split
            ``train``.
        skip_bad: whether rows that are no preferences are left out, and counted in `PreferenceSet.left_out`.

    Returns:
        Its preferences in file order, named after the file, folder or data set.

    Raises:
        InputError: if it is missing, empty, of another kind or unreadable, or holds rows that are no preferences; the
            message names the place, the value and what was expected, of the first twenty such rows.
    """
    name, read = _reader(source.as_posix() if isinstance(source, Path) else source.strip())
    return _collected(name, read, skip_bad=skip_bad)


def preferences_of(
    source: str | Path | PreferenceSet | Iterable[Mapping[str, Any]], *, skip_bad: bool = False
) -> PreferenceSet:
    """Preferences as given, from a source as :func:`read_preferences` reads it, or from records in memory.

    Args:
        source: preferences; a path or the name of a data set; or records, such as a list of dicts, the rows of a
            `datasets.Dataset` or a pandas DataFrame.
        skip_bad: as in :func:`read_preferences`.

    Raises:
        InputError: if `source` is none of these, or holds records that are no preferences.
    """
    if isinstance(source, PreferenceSet):
        return source
    if isinstance(source, (str, Path)):
        return read_preferences(source, skip_bad=skip_bad)
    rows = memory_rows(source)
    return _collected(IN_MEMORY, lambda rejects: read_records(rows, rejects), skip_bad=skip_bad)


def is_elsewhere(source: str) -> bool:
    """Whether a source is no path that exists, but a split of a folder or a data set by name."""
    return _split_off(source)[1] is not None or _named(source) is not None


def sample_source() -> Path:
    """The folder of the bundled sample set, an RMB tree."""
    return Path(str(files("qbrm").joinpath("sample")))


def _collected(name: str, read: Reader, *, skip_bad: bool) -> PreferenceSet:
    rejects = Rejects()
    preferences = tuple(read(rejects))
    if not (preferences or rejects.kinds):
        raise InputError(f"{one_line(name)} holds no preferences; expected one or more.")
    if not (preferences and skip_bad):
        rejects.check(name, len(preferences), SKIP if preferences else "")
    return PreferenceSet(name, preferences, dict(rejects.kinds.most_common()))


def _reader(source: str) -> tuple[str, Reader]:
    """The name of a source, and what reads it."""
    if not source:
        raise InputError(f"the preference source is empty; expected {KINDS}.")
    path, folder, split = Path(source), *_split_off(source)
    if split is not None:
        return f"{_name(folder)}:{split}", _folder_reader(folder, split)
    asked = _named(source)
    if asked is not None:
        rows = dataset_rows(str(asked), load_named(asked, source), COLUMNS)
        return str(asked), lambda rejects: read_records(rows, rejects)
    if is_folder(path):
        return _name(path), _folder_reader(path)
    return _name(path), lambda rejects: _read_file(path, rejects)


def _split_off(source: str) -> tuple[Path, str | None]:
    """A folder that exists and the split asked for behind it; None where there is none."""
    folder, colon, split = source.rpartition(":")
    if not (colon and split) or _exists(Path(source)) or not (_exists(Path(folder)) and is_folder(Path(folder))):
        return Path(source), None
    return Path(folder), split


def _named(source: str) -> DatasetName | None:
    """The data set that a source names if it is no path; the name of a file that is missing names none."""
    path = Path(source)
    return None if _exists(path) or kind_of(path) in FILES else DatasetName.parse(source)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have; opening it says why
        return False


def _folder_reader(folder: Path, split: str | None = None) -> Reader:
    if is_saved(folder):
        rows = dataset_rows(one_line(folder), load_saved(folder, split), COLUMNS)
        return lambda rejects: read_records(rows, rejects)
    root = rmb_root(folder) if split is None else None
    if root is not None:
        return lambda rejects: read_rmb_tree(root, rejects)
    paths = shards(folder, split)
    return lambda rejects: chain.from_iterable(_read_file(path, rejects) for path in paths)


def _read_file(path: Path, rejects: Rejects) -> Iterator[Preference]:
    if kind_of(path) not in FILES:
        raise InputError(f"{one_line(path)} is of no known kind; expected {KINDS}.")
    rows = file_rows(path, COLUMNS, ANSWERS)
    if kind_of(path) != ".json":
        return read_records(rows, rejects)
    items = list(rows)
    of_rmb = any(is_rmb(item.field.value) for item in items)
    return read_rmb_rows(items, rejects) if of_rmb else read_records(items, rejects)


def _name(path: Path) -> str:
    return path.name if path.name not in ("", "..") else path.resolve().name
