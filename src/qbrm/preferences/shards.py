"""Folders of files that are one data set in parts, and maybe several splits of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from qbrm.errors import InputError
from qbrm.preferences.files import find_files
from qbrm.preferences.quoting import one_line
from qbrm.preferences.rows import KINDS, SUFFIXES

SHARD = re.compile(r"-\d{5}-of-\d{5}$")
# The words by which the package datasets knows the splits of files too.
SPLIT = re.compile(
    r"(?<![a-z])(train(?:ing)?|valid(?:ation)?|dev|test(?:ing)?|eval(?:uation)?)(?![a-z])", re.IGNORECASE
)
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json")


def data_files(folder: Path) -> list[Path]:
    """All files of a folder that can hold rows, sorted by their path.

    Raises:
        InputError: if there is none, or the folder cannot be read.
    """
    files = [path for path in find_files(folder, *SUFFIXES) if path.name not in DESCRIPTIONS]
    if not files:
        expected = "some, or the folders BoN_set/ and Pairwise_set/ of RMB"
        raise InputError(f"{one_line(folder)} holds no {KINDS} file; expected {expected}.")
    return files


def shards(folder: Path, split: str | None = None) -> list[Path]:
    """The files of one split of a folder, or all its files if they are of one.

    A file's split stands before its shard number, as in ``train_prefs-00000-of-00003.parquet``, or is a word such as
    ``train`` or ``test`` in the name of the file or of a folder around it.

    Raises:
        InputError: as :func:`chosen_split`, or if the folder holds no file of rows.
    """
    by_split: dict[str | None, list[Path]] = {}
    for path in data_files(folder):
        by_split.setdefault(_split(path.relative_to(folder)), []).append(path)
    return by_split[chosen_split(folder, list(by_split), split)]


def chosen_split(folder: Path, splits: Sequence[str | None], asked: str | None) -> str | None:
    """The split asked for, or the only one; None is that of files whose names tell none.

    Raises:
        InputError: if there is no such split, or there are several and none is asked for.
    """
    if asked is not None and asked in splits:
        return asked
    if asked is None and len(splits) == 1:
        return splits[0]
    names = sorted(name for name in splits if name is not None)
    found = ", ".join([*names, *["files of none"] * (None in splits and len(splits) > 1)]) or "none"
    if asked is not None:
        raise InputError(f"{one_line(folder)} has no split {asked!r}; expected one of those it has: {found}.")
    example = f"{one_line(folder)}:{'train' if 'train' in names else names[0]}"
    raise InputError(f"{one_line(folder)} has several splits ({found}); expected one behind a colon, as in {example}.")


def origin(path: Path) -> Path:
    """A file without its suffixes and shard number."""
    name = path.name.removesuffix(".gz")
    return path.with_name(SHARD.sub("", Path(name).stem))


def _split(path: Path) -> str | None:
    stem = origin(path).name
    if SHARD.search(Path(path.name.removesuffix(".gz")).stem):
        return stem
    for name in (stem, *reversed(path.parts[:-1])):
        word = SPLIT.search(name)
        if word:
            return word[0].lower()
    return None
