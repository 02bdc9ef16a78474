"""Writing a feature table: embed what is missing, shard by shard, so that a killed build continues."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from qbrm.durable import TEMPORARY, make_folder, one_writer
from qbrm.errors import InputError
from qbrm.features.manifest import MANIFEST, SHARD_NAME, Manifest, read_manifest
from qbrm.features.shard import Key, first_non_finite_row, write_shard
from qbrm.features.table import FeatureTable, check_schemas
from qbrm.preferences.base import PreferenceSet, Prompt
from qbrm.reward_models.base import Embedded, Identity, RewardModel

SHARD_ROWS = 1024
BATCH_ROWS = 128

Texts = dict[Key, tuple[Prompt, str]]
Progress = Callable[[int, int], None]


class DamagedShardWarning(UserWarning):
    """A shard was not as it was written, and its rows are computed again."""


def build_features(
    model: RewardModel,
    preferences: PreferenceSet,
    folder: str | Path,
    progress: Progress | None = None,
    shard_rows: int = SHARD_ROWS,
) -> FeatureTable:
    """Embed every distinct (prompt, response) that the table in `folder` does not have yet.

    Killed at any moment, the same call continues and loses at most the shard in progress. A table may hold more than
    `preferences` asks for and grows with every source. A damaged or missing shard is named in a `DamagedShardWarning`
    and dropped, and those of its rows that `preferences` asks for are computed again. The model is called only if
    something is missing. Opening checks every shard's SHA-256, see `FeatureTable.open`.

    Args:
        model: what embeds.
        preferences: what is embedded.
        folder: where the table is or is to be.
        progress: called with (rows there, rows wanted) at the start and after each batch.
        shard_rows: most rows in a shard; responses to one prompt share a shard if they fit.

    Raises:
        InputError: if the folder holds features of another model or cannot be written, or the model returns NaN,
            infinite or misshapen values.
    """
    folder = Path(folder)
    make_folder(folder)
    with one_writer(folder):
        manifest = _resumed(folder, model)
        texts = preferences.responses()
        there = set(FeatureTable(folder, manifest).keys())
        missing = {key: text for key, text in texts.items() if key not in there}
        count = _Count(progress, len(texts) - len(missing), len(texts))
        for keys in shard_plan(missing, shard_rows):
            features = _embed(model, keys, missing, count)
            manifest = _with_shard(folder, manifest, keys, features)
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

    Killed at any moment, the folder holds the old table or, if there was none, one without rows that is not
    `complete`.

    Raises:
        InputError: if a key occurs twice, sizes disagree, a value is not finite, or the folder cannot be written.
    """
    folder = Path(folder)
    if len(set(keys)) != len(keys):
        raise InputError(f"features for {folder} name a (prompt, response) twice; expected distinct keys.")
    dim = embedding.shape[-1]
    features = _checked(identity, dim, keys, Embedded(embedding, reward))
    make_folder(folder)
    with one_writer(folder):
        manifest = Manifest(identity, dim)
        if not (folder / MANIFEST).exists():
            _start(folder, manifest)
        for start in range(0, len(keys), shard_rows):
            part = slice(start, start + shard_rows)
            manifest = _with_shard(folder, manifest, keys[part], _part(features, part))
        manifest = _completed(folder, manifest)
        _clean(folder, manifest)
        return FeatureTable(folder, manifest)


def shard_plan(texts: Texts, shard_rows: int) -> Iterator[list[Key]]:
    """Share out rows among shards, the same way whenever it is called.

    Prompts with the longest responses go first, so that batches hold texts of similar length and an estimate of the
    time left errs on the safe side.

    Args:
        texts: what is to be embedded.
        shard_rows: most rows in a shard; responses to one prompt stay together if they fit.

    Yields:
        The keys of one shard.
    """
    shard: list[Key] = []
    for group in _by_prompt(texts):
        if shard and len(shard) + len(group) > shard_rows:
            yield shard
            shard = []
        shard += group
        while len(shard) > shard_rows:
            yield shard[:shard_rows]
            shard = shard[shard_rows:]
    if shard:
        yield shard


def _by_prompt(texts: Texts) -> list[list[Key]]:
    def longest_first(key: Key) -> tuple[int, Key]:
        return -len(texts[key][1]), key

    groups: dict[str, list[Key]] = {}
    for key in sorted(texts, key=longest_first):
        groups.setdefault(key[0], []).append(key)
    return list(groups.values())


class _Count:
    """Rows there and rows wanted, told to whoever shows the progress."""

    def __init__(self, progress: Progress | None, done: int, total: int) -> None:
        self._progress, self._done, self._total = progress, done, total
        self.add(0)

    def add(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)


def _resumed(folder: Path, model: RewardModel) -> Manifest:
    """The manifest of what `folder` holds whole, after clearing away the rest."""
    manifest = read_manifest(folder)
    if manifest is None:
        return _start(folder, Manifest(model.identity, model.dim))
    FeatureTable(folder, manifest).require(model.identity, model.dim, "the reward model is")
    damaged = manifest.damaged(folder)
    for entry, damage in damaged.items():
        message = f"shard {folder / entry.file} is damaged ({damage}); its {entry.rows:,} rows are computed again."
        warnings.warn(message, DamagedShardWarning, stacklevel=3)
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
        manifest = replace(manifest, complete=True)
        manifest.write(folder)
    return manifest


def _embed(model: RewardModel, keys: Sequence[Key], texts: Texts, count: _Count) -> Embedded:
    parts = []
    for start in range(0, len(keys), BATCH_ROWS):
        batch = keys[start : start + BATCH_ROWS]
        prompts, responses = zip(*(texts[key] for key in batch), strict=True)
        parts.append(_checked(model.identity, model.dim, batch, model.embed(prompts, responses)))
        count.add(len(batch))
    rewards = [part.reward for part in parts if part.reward is not None]
    embedding = np.concatenate([part.embedding for part in parts])
    return Embedded(embedding, np.concatenate(rewards) if rewards else None)


def _checked(identity: Identity, dim: int, keys: Sequence[Key], features: Embedded) -> Embedded:
    """The features in float32, if they have one finite row for each key."""
    rewards = [] if features.reward is None else [np.asarray(features.reward, dtype=np.float32)]
    embedding = np.asarray(features.embedding, dtype=np.float32)
    if embedding.shape != (len(keys), dim):
        raise InputError(f"{identity} gave embeddings of shape {embedding.shape}; expected {(len(keys), dim)}.")
    for reward in rewards:
        if reward.shape != (len(keys),):
            raise InputError(f"{identity} gave rewards of shape {reward.shape}; expected {(len(keys),)}.")
    checked = Embedded(embedding, rewards[0] if rewards else None)
    bad = first_non_finite_row(checked)
    if bad is not None:
        prompt, response = keys[bad]
        raise InputError(
            f"{identity} gave NaN or infinity for response {response} of prompt {prompt}; expected finite."
        )
    return checked


def _with_shard(folder: Path, manifest: Manifest, keys: Sequence[Key], features: Embedded) -> Manifest:
    has_reward = features.reward is not None
    if manifest.has_reward not in (None, has_reward):
        raise InputError(f"{manifest.identity} gives rewards for some rows only; expected all rows or none.")
    entry = write_shard(folder / _next_name(folder), keys, features)
    return manifest.plus(entry, has_reward=has_reward)


def _part(features: Embedded, rows: slice) -> Embedded:
    return Embedded(features.embedding[rows], None if features.reward is None else features.reward[rows])


def _next_name(folder: Path) -> str:
    numbers = [int(path.stem.partition("-")[2]) for path in _shard_files(folder)]
    return f"features-{max(numbers, default=-1) + 1:05d}.arrow"


def _shard_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if SHARD_NAME.fullmatch(path.name)]


def _clean(folder: Path, manifest: Manifest) -> None:
    """Remove shards that the manifest does not list, and files that were being written when a build was killed."""
    listed = {entry.file for entry in manifest.shards}
    for path in folder.iterdir():
        name = path.name.removesuffix(TEMPORARY)
        ours = name == MANIFEST or SHARD_NAME.fullmatch(name)
        if ours and path.name not in {*listed, MANIFEST}:
            with suppress(OSError):
                path.unlink()
