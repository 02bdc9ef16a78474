"""Reading a feature table: memory-mapped shards under one manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from qbrm.errors import InputError
from qbrm.features.manifest import MANIFEST, Manifest, ShardEntry, read_manifest
from qbrm.features.shard import (
    Shard,
    check_schema,
    first_non_finite_row,
    read_features,
    read_keys,
    read_rewards,
    read_shard,
)
from qbrm.preferences.base import Key
from qbrm.reward_models.base import Embedded, Identity


class FeatureTable:
    """The embeddings and rewards that one reward model gives, on disk and mapped into memory when read.

    Get one from `FeatureTable.open`, `build_features` or `write_features`, which check its shards; nothing is loaded
    until it is used.

    Args:
        folder: where manifest and shards are.
        manifest: the manifest, its shards already checked.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self._manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> FeatureTable:
        """Open a table for reading.

        Every shard is read once and its SHA-256 compared with the manifest, at 1 to 2 GB/s when the files are cached,
        else at the disk's speed: a million embeddings of size 4,096 are 16 GB, 10 to 15 s.

        Raises:
            InputError: if there is no table, a shard is damaged or missing, or embedding sizes are mixed.
        """
        table = cls.without_checking(folder)
        for entry, damage in table._manifest.damaged(table.folder).items():
            shard = table.folder / entry.file
            raise InputError(f"shard {shard} is damaged ({damage}); rerun the command that built it to repair it.")
        check_schemas(table.folder, table._manifest)
        return table

    @classmethod
    def without_checking(cls, folder: str | Path) -> FeatureTable:
        """A table whose shards are taken to be whole, because this process has just written or checked them.

        Raises:
            InputError: if there is no table.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise InputError(f"no feature table in {folder}: {MANIFEST} is missing; expected a folder of features.")
        return cls(folder, manifest)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def dim(self) -> int:
        """Embedding size."""
        return self._manifest.dim

    @property
    def identity(self) -> Identity:
        """The reward model that the features come from."""
        return self._manifest.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """What that was loaded with besides name and revision."""
        return self._manifest.settings

    @property
    def head_dim(self) -> int | None:
        """How many coordinates of the embedding, the first ones, its score layer reads; None for all."""
        return self._manifest.head_dim

    @property
    def has_reward(self) -> bool:
        """Whether the model had a score layer."""
        return bool(self._manifest.has_reward)

    @property
    def cut(self) -> int:
        """How many rows are of texts that were longer than the model takes, and lost a part."""
        return sum(entry.cut for entry in self._manifest.shards)

    @property
    def complete(self) -> bool:
        """Whether the last build got to its end."""
        return self._manifest.complete

    def require_complete(self) -> None:
        """Check that the last build got to its end.

        Raises:
            InputError: if it did not; says how many rows there are, and how many are wanted.
        """
        if not self.complete:
            of = "" if self._manifest.wanted is None else f" of {self._manifest.wanted:,}"
            raise InputError(
                f"features in {self.folder} are not complete: {len(self):,}{of} responses; run qbrm embed again."
            )

    @property
    def digest(self) -> str:
        """Changes with any row and with the order of the rows."""
        return hashlib.sha256("".join(entry.sha256 for entry in self._manifest.shards).encode()).hexdigest()

    def keys(self) -> list[Key]:
        """(prompt id, response id) of every row, in the table's order."""
        return list(self._index)

    def shards(self) -> Iterator[Shard]:
        """Go through the table with one shard mapped at a time.

        Raises:
            InputError: if a value is NaN or infinite, naming shard and row.
        """
        for entry in self._manifest.shards:
            shard = read_shard(self.folder / entry.file)
            self._require_finite(entry, Embedded(shard.embedding, shard.reward))
            yield shard

    def rows(self, keys: Sequence[Key]) -> Embedded:
        """Gather rows in the order asked; a key may be asked for more than once.

        Raises:
            InputError: if the table has no such row, or its values are NaN or infinite.
        """
        return self.take(self.locate(keys))

    def take(self, rows: Int[np.ndarray, " n"]) -> Embedded:
        """Gather rows by their numbers in the table's order, without reading the keys of any.

        Raises:
            InputError: if a value is NaN or infinite.
        """
        embedding = np.empty((len(rows), self.dim), dtype=np.float32)
        reward = np.empty(len(rows), dtype=np.float32) if self.has_reward else None
        for entry, start, asked in self._by_shard(rows):
            part = self._gather(entry, rows[asked] - start)
            embedding[asked] = part.embedding
            if reward is not None and part.reward is not None:
                reward[asked] = part.reward
        return Embedded(embedding, reward)

    def rewards(self, rows: Int[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """Gather rewards by row numbers; embeddings are not read.

        Raises:
            InputError: if the table has no rewards.
        """
        if not self.has_reward:
            raise InputError(f"features in {self.folder} have no rewards; expected a model with a score layer.")
        reward = np.empty(len(rows), dtype=np.float32)
        for entry, start, asked in self._by_shard(rows):
            reward[asked] = read_rewards(self.folder / entry.file)[rows[asked] - start]
        return reward

    def locate(self, keys: Sequence[Key]) -> Int[np.ndarray, " n"]:
        """The number of each key's row.

        Raises:
            InputError: if the table has no such row.
        """
        try:
            return np.array([self._index[key] for key in keys], dtype=np.int64)
        except KeyError as error:
            prompt, response = error.args[0]
            raise InputError(
                f"features in {self.folder} lack response {response} of prompt {prompt}; "
                "rerun the command that built them with this preference source."
            ) from error

    def require(self, identity: Identity, dim: int, whose: str) -> None:
        """Check that the features come from the model that is to use them.

        Args:
            identity: the model expected.
            dim: its embedding size.
            whose: continues the message with the model's user, such as "the score was trained on".

        Raises:
            InputError: if they come from another model, another template, maximum length or embedding size.
        """
        if (self.identity, self.dim) != (identity, dim):
            mine, other = _distinguished(self._manifest, Manifest(identity, dim))
            raise InputError(f"features in {self.folder} come from {mine}, {whose} {other}.")

    @cached_property
    def _starts(self) -> Int[np.ndarray, " shards_and_one"]:
        """Number of each shard's first row, and of the rows in all."""
        return np.cumsum([0, *(entry.rows for entry in self._manifest.shards)], dtype=np.int64)

    @cached_property
    def _index(self) -> dict[Key, int]:
        keys = (key for entry in self._manifest.shards for key in read_keys(self.folder / entry.file))
        return {key: row for row, key in enumerate(keys)}

    def _by_shard(self, rows: Int[np.ndarray, " n"]) -> Iterator[tuple[ShardEntry, int, Int[np.ndarray, " asked"]]]:
        """The shards that hold `rows`: entry, number of its first row, and the indices into `rows` that it holds."""
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(number):
            yield self._manifest.shards[shard], int(self._starts[shard]), np.flatnonzero(number == shard)

    def _gather(self, entry: ShardEntry, rows: Int[np.ndarray, " asked"]) -> Embedded:
        mapped = read_features(self.folder / entry.file)
        part = Embedded(mapped.embedding[rows], None if mapped.reward is None else mapped.reward[rows])
        self._require_finite(entry, part, rows)
        return part

    def _require_finite(
        self, entry: ShardEntry, features: Embedded, rows: Int[np.ndarray, " asked"] | None = None
    ) -> None:
        bad = first_non_finite_row(features)
        if bad is not None:
            row = bad if rows is None else rows[bad]
            raise InputError(f"shard {self.folder / entry.file}, row {row}: not finite; expected finite numbers.")


def check_schemas(folder: Path, manifest: Manifest) -> None:
    """Check that every shard has the manifest's columns, embedding size and number of rows.

    Raises:
        InputError: naming the first shard that has not.
    """
    for entry in manifest.shards:
        check_schema(folder / entry.file, manifest.dim, entry.rows, has_reward=bool(manifest.has_reward))


def _distinguished(mine: Manifest, other: Manifest) -> tuple[str, str]:
    """Name two models by the fields in which they differ."""
    if str(mine.identity) != str(other.identity):
        return str(mine.identity), str(other.identity)
    first, second = ({**manifest.identity.to_dict(), "embedding size": manifest.dim} for manifest in (mine, other))
    differ = [name for name in first if first[name] != second[name]]
    return (
        f"{mine.identity} ({', '.join(f'{name} {first[name]}' for name in differ)})",
        f"{other.identity} ({', '.join(f'{name} {second[name]}' for name in differ)})",
    )
