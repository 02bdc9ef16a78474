"""One shard of a feature table: an Arrow IPC file, written once and read through a memory map."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from qbrm.durable import write_atomically
from qbrm.errors import InputError
from qbrm.features.manifest import ShardEntry
from qbrm.preferences.base import Key
from qbrm.reward_models.base import Embedded


class Shard(NamedTuple):
    """The rows of one shard; arrays are views into the mapped file, no rewards if the model has no score layer."""

    prompt_ids: list[str]
    response_ids: list[str]
    embedding: Float32[np.ndarray, "rows dim"]
    reward: Float32[np.ndarray, " rows"] | None


def write_shard(path: Path, keys: Sequence[Key], features: Embedded) -> ShardEntry:
    """Write rows as one shard, whole or not at all; returns what the manifest has to say of it.

    Raises:
        InputError: if the folder cannot be written.
    """
    dim = features.embedding.shape[1]
    columns = {
        "prompt_id": pa.array([prompt for prompt, _ in keys], pa.string()),
        "response_id": pa.array([response for _, response in keys], pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(features.embedding.ravel()), dim),
    }
    if features.reward is not None:
        columns["reward"] = pa.array(features.reward)
    content = serialise(pa.record_batch(columns))
    write_atomically(path, content, listed=False)  # the manifest has its checksum
    return ShardEntry(path.name, len(keys), len(content), hashlib.sha256(content).hexdigest())


def serialise(batch: Any) -> memoryview:
    """The content of an Arrow IPC file that holds one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def check_schema(path: Path, dim: int, rows: int, *, has_reward: bool) -> None:
    """Check that a shard's columns, and how many rows it has, are the manifest's; reads no rows.

    Raises:
        InputError: if a column is missing, of another type, or the embeddings or the shard are of another size.
    """
    try:
        with pa.memory_map(str(path)) as file:
            content = pa.ipc.open_file(file)
            schema = content.schema
            found = sum(content.get_batch(number).num_rows for number in range(content.num_record_batches))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"shard {path} is not an Arrow file; expected a feature table's shard.") from error
    columns = {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
    types = {"prompt_id": pa.string(), "response_id": pa.string(), "embedding": pa.list_(pa.float32(), dim)}
    types |= {"reward": pa.float32()} if has_reward else {}
    for name, expected in types.items():
        if columns.get(name) != str(expected):
            raise InputError(f"shard {path} has {name} {columns.get(name, 'missing')}; its manifest says {expected}.")
    if found != rows:
        raise InputError(f"shard {path} has {found:,} rows; its manifest says {rows:,}.")


def read_keys(path: Path) -> list[Key]:
    """Read the (prompt id, response id) of every row."""
    table = _read(path)
    return list(zip(table["prompt_id"].to_pylist(), table["response_id"].to_pylist(), strict=True))


def read_shard(path: Path) -> Shard:
    """Map a shard; embedding and reward are views into the file, and nothing is copied but the ids.

    Raises:
        InputError: if a row has missing values.
    """
    table = _read(path)
    return Shard(table["prompt_id"].to_pylist(), table["response_id"].to_pylist(), *_views(path, table))


def read_features(path: Path) -> Embedded:
    """Map a shard's embeddings and rewards: views into the file. Raises InputError if a row has missing values."""
    return _views(path, _read(path))


def read_rewards(path: Path) -> Float32[np.ndarray, " rows"]:
    """Map a shard's rewards: a view into the file, which must have them. Raises InputError if a row has no reward."""
    return _view(path, _one_chunk(_read(path)["reward"]))


def _views(path: Path, table: Any) -> Embedded:
    vectors = _one_chunk(table["embedding"])
    embedding = _view(path, vectors.flatten()).reshape(-1, vectors.type.list_size)
    if len(embedding) != len(table):
        raise InputError(f"shard {path} has rows without an embedding; expected one in every row.")
    return Embedded(embedding, _view(path, _one_chunk(table["reward"])) if "reward" in table.column_names else None)


def _read(path: Path) -> Any:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _one_chunk(column: Any) -> Any:
    """The column as one array; `combine_chunks` would copy even a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _view(path: Path, column: Any) -> Float32[np.ndarray, " values"]:
    if column.null_count:
        raise InputError(f"shard {path} has missing values; expected finite numbers.")
    values: Float32[np.ndarray, " values"] = column.to_numpy(zero_copy_only=True)
    return values


def first_non_finite_row(features: Embedded) -> int | None:
    """Find the first row whose embedding or reward is NaN or infinite; None if all are finite."""
    for values in features:
        if values is not None and values.size and not np.isfinite([values.min(), values.max()]).all():
            return int(np.argwhere(~np.isfinite(values))[0, 0])
    return None
