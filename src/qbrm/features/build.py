"""Writing a feature table: embed what is missing, shard by shard, so that a killed build continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from qbrm.durable import TEMPORARY, one_writer
from qbrm.errors import DamagedFileError, InputError
from qbrm.features.engine import Engine, LocalEngine, checked
from qbrm.features.manifest import MANIFEST, SHARD_NAME, Manifest, read_manifest, shard_name
from qbrm.features.plan import make_block, missing_shards
from qbrm.features.refused import require_all_taken
from qbrm.features.shard import write_shard
from qbrm.features.table import FeatureTable, check_schemas
from qbrm.preferences.base import Key, PreferenceSet
from qbrm.reward_models.base import Embedded, Identity, RewardModel

SHARD_ROWS = 1024

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def build_features(
    model: RewardModel,
    preferences: PreferenceSet,
    folder: str | Path,
    progress: Progress | None = None,
    shard_rows: int = SHARD_ROWS,
) -> FeatureTable:
    """Embed with a model in this process, see :func:`build_with`."""
    return build_with(LocalEngine(model), preferences, folder, progress, shard_rows)


def build_with(
    engine: Engine,
    preferences: PreferenceSet,
    folder: str | Path,
    progress: Progress | None = None,
    shard_rows: int = SHARD_ROWS,
) -> FeatureTable:
    """Embed every distinct (prompt, response) that the table in `folder` does not have yet.

    Only this process writes, whoever embeds. Killed at any moment, the same call continues and loses at most the shards
    in progress; the table comes out the same, byte for byte, as from one run of any engine. A table may hold more than
    `preferences` asks for and grows with every source. A damaged or missing shard is named in a logged warning and
    dropped, and those of its rows that `preferences` asks for are computed again.

    Args:
        engine: embeds the blocks.
        preferences: what is embedded.
        folder: the table's folder; made if it does not exist.
        progress: called with (rows there, rows wanted) at the start and as rows are done.
        shard_rows: most rows in a shard; responses to one prompt share a shard if they fit.

    Raises:
        InputError: if the folder holds features of another model or cannot be written, or the model returns NaN,
            infinite or misshapen values.
        RefusedTextsError: if the model cannot take some of the texts; before any is embedded.
    """
    folder = Path(folder)
    with one_writer(folder, wait=True):
        texts = preferences.responses()
        manifest = _resumed(folder, engine, len(texts))
        there = set(FeatureTable(folder, manifest).keys())
        missing = missing_shards(texts, there, shard_rows)
        new = [key for keys in missing for key in keys]
        require_all_taken(engine, preferences, {key: texts[key] for key in new})
        manifest = replace(manifest, wanted=len(there) + len(new))
        done = _Count(progress, len(texts) - len(new), len(texts))
        blocks = [make_block(file, keys, texts) for file, keys in zip(_free_names(folder), missing, strict=False)]
        for block, (features, cut) in engine.embed(blocks, done.add):
            manifest = _with_shard(folder, manifest, block.file, block.keys, features, cut)
            manifest.write(folder)
        return FeatureTable(folder, _completed(folder, manifest))


def write_features(
    folder: str | Path,
    identity: Identity,
    keys: Sequence[Key],
    embedding: Float32[np.ndarray, "n dim"],
    reward: Float32[np.ndarray, " n"] | None,
    shard_rows: int = SHARD_ROWS,
) -> FeatureTable:
    """Write a whole table from arrays, in place of the one that may be in `folder`.

    Killed at any moment, the folder holds the old table or, if there was none, an empty one that is not `complete`.

    Raises:
        InputError: if a key occurs twice, sizes disagree, a value is not finite, or the folder cannot be written.
    """
    folder = Path(folder)
    if len(set(keys)) != len(keys):
        raise InputError(f"features for {folder} name a (prompt, response) twice; expected distinct keys.")
    dim = embedding.shape[-1]
    features = checked(identity, dim, keys, Embedded(embedding, reward))
    with one_writer(folder, wait=True):
        manifest = Manifest(identity, dim, wanted=len(keys))
        if not (folder / MANIFEST).exists():
            _start(folder, manifest)
        names = _free_names(folder)
        for start, file in zip(range(0, len(keys), shard_rows), names, strict=False):
            part = slice(start, start + shard_rows)
            rewards = None if features.reward is None else features.reward[part]
            shard = Embedded(features.embedding[part], rewards)
            manifest = _with_shard(folder, manifest, file, keys[part], shard)
        manifest = _completed(folder, manifest)
        _clean(folder, manifest)
        return FeatureTable(folder, manifest)


class _Count:
    def __init__(self, progress: Progress | None, done: int, total: int) -> None:
        self._progress, self._done, self._total = progress, done, total
        self.add(0)

    def add(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)


def _resumed(folder: Path, engine: Engine, wanted: int) -> Manifest:
    """The manifest of what `folder` holds whole, after clearing away the rest; one without rows is any model's."""
    identity, dim, settings, head_dim = engine.described
    try:
        manifest = read_manifest(folder)
    except DamagedFileError as error:  # shards that have the checksums it says are whole for all that
        logger.warning("%s Its shards are checked.", error)
        manifest = read_manifest(folder, checked=False)
        manifest = manifest and replace(manifest, settings=settings, head_dim=head_dim, complete=False)
    fresh = Manifest(identity, dim, settings=settings, wanted=wanted, head_dim=head_dim)
    if manifest is None:
        return _start(folder, fresh)
    if not manifest.shards:
        manifest = fresh
        manifest.write(folder)
    FeatureTable(folder, manifest).require(engine.described.identity, engine.described.dim, "the reward model is")
    damaged = manifest.damaged(folder)
    for entry, damage in damaged.items():
        shard = folder / entry.file
        logger.warning("shard %s is damaged (%s); its %s rows are computed again.", shard, damage, f"{entry.rows:,}")
    if damaged:
        manifest = manifest.without(set(damaged))
        manifest.write(folder)
    check_schemas(folder, manifest)
    _clean(folder, manifest)
    return manifest


def _start(folder: Path, manifest: Manifest) -> Manifest:
    if any(_shard_files(folder)):
        raise InputError(f"{folder} has shards but no {MANIFEST}; expected a feature table or a folder without shards.")
    manifest.write(folder)
    return manifest


def _completed(folder: Path, manifest: Manifest) -> Manifest:
    if not manifest.complete:
        manifest = replace(manifest, complete=True, wanted=None)
        manifest.write(folder)
    return manifest


def _with_shard(
    folder: Path, manifest: Manifest, file: str, keys: Sequence[Key], features: Embedded, cut: int = 0
) -> Manifest:
    has_reward = features.reward is not None
    if manifest.has_reward not in (None, has_reward):
        raise InputError(f"{manifest.identity} gives rewards for some rows only; expected all rows or none.")
    return manifest.plus(replace(write_shard(folder / file, keys, features), cut=cut), has_reward=has_reward)


def _free_names(folder: Path) -> Iterator[str]:
    """Names for new shards, ascending: the lowest numbers not taken, whichever shards were written first."""
    taken = {path.name for path in _shard_files(folder)}
    return (name for name in map(shard_name, count()) if name not in taken)


def _shard_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if SHARD_NAME.fullmatch(path.name)]


def _clean(folder: Path, manifest: Manifest) -> None:
    """Remove shards that the manifest does not list, and what killed builds of an earlier version left."""
    listed = {entry.file for entry in manifest.shards}
    for path in folder.iterdir():
        name = path.name.removesuffix(TEMPORARY)
        ours = name == MANIFEST or SHARD_NAME.fullmatch(name)
        if ours and path.name not in {*listed, MANIFEST}:
            with suppress(OSError):
                path.unlink()
