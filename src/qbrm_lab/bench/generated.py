"""Generated features on disk, of the size of real ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.build import SHARD_ROWS
from qbrm.features.manifest import Manifest, shard_name
from qbrm.features.pair_list import PairList, write_pair_list
from qbrm.features.shard import write_shard
from qbrm.reward_models.base import Embedded, Identity

SPARE = 1.2


def require_room(folder: Path, dim: int, rows: int) -> None:
    """Refuse to generate what the disk has no room for.

    Args:
        folder: a temporary folder.
        dim: embedding size.
        rows: of the table.

    Raises:
        InputError: if the disk lacks room.
    """
    needed, free = int(SPARE * rows * dim * 4), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder.parent} has {free / 2**30:.1f} GiB free, {rows:,} rows need {needed / 2**30:.1f}; expected the "
            "environment variable TMPDIR to name a folder with more room."
        )


def generate(folder: Path, dim: int, rows: int, seed: int) -> None:
    """Write a feature table of standard normal embeddings, and a pair to every two rows, each on a prompt of its own.

    The base reward is the embedding's first number. Labels follow its sum with the last one, so that there is something
    to learn.
    """
    folder.mkdir()
    rng = np.random.default_rng(seed)
    entries, gold = [], np.empty(rows, np.float32)
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        keys = [(f"{row // 2:016x}", f"{row % 2:016x}") for row in range(start, min(start + SHARD_ROWS, rows))]
        embedding = rng.standard_normal((len(keys), dim), dtype=np.float32)
        gold[start : start + len(keys)] = embedding[:, 0] + embedding[:, -1]
        entries.append(write_shard(folder / shard_name(number), keys, Embedded(embedding, embedding[:, 0].copy())))
    Manifest(Identity("generated", str(seed), "none", 0), dim, True, tuple(entries), True).write(folder)
    first = np.arange(0, rows - 1, 2)
    swapped = (gold[first] < gold[first + 1]).astype(np.int64)
    pairs = PairList(first + swapped, first + 1 - swapped, first.astype(np.uint64), len(first))
    write_pair_list(FeatureTable.without_checking(folder), pairs)
