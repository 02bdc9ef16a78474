"""Which responses of a feature table form training pairs: an Arrow file beside the shards, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

from qbrm.durable import check_file, write_atomically
from qbrm.errors import DamagedFileError, InputError
from qbrm.features.shard import serialise
from qbrm.features.table import FeatureTable
from qbrm.preferences.base import Key, Pair, PairCount, PreferenceSet, training_pairs
from qbrm.preferences.digest import prompt_digest

PAIRS = "pairs.arrow"
SCHEMA = pa.schema({"chosen": pa.int64(), "rejected": pa.int64(), "prompt": pa.uint64()})
TABLE, PROMPTS, SOURCE, REPEATED, EQUAL = "table", "prompts", "source", "repeated", "equal"

KeyPair = tuple[Key, Key]


class PairList(NamedTuple):
    """Pairs by the numbers of their rows, in ascending order of the chosen one: neighbours share shards.

    With the hash of each prompt's id, for splits, how many `prompts` they are on, and the name of the preferences that
    they come from, empty if unknown. `pair_count` has those left out of these preferences too.
    """

    chosen: Int64[np.ndarray, " pairs"]
    rejected: Int64[np.ndarray, " pairs"]
    prompt: UInt64[np.ndarray, " pairs"]
    prompts: int
    source: str = ""
    repeated: int = 0
    equal: int = 0

    @property
    def pair_count(self) -> PairCount:
        """How many pairs there are, and how many of the preferences were left out."""
        return PairCount(len(self.chosen), self.repeated, self.equal)


def key_pairs(pairs: Sequence[Pair]) -> list[KeyPair]:
    """Training pairs by the keys that feature tables have, chosen first."""
    return [((pair.prompt_id, pair.chosen_response_id), (pair.prompt_id, pair.rejected_response_id)) for pair in pairs]


def write_training_pairs(folder: Path, preferences: PreferenceSet) -> None:
    """Write the training pairs of preferences beside the table in `folder`; raises as :func:`write_pairs`."""
    _, repeated, equal = preferences.pair_count
    write_pairs(folder, key_pairs(training_pairs(preferences)), preferences.name, repeated, equal)


def write_pairs(folder: Path, pairs: Sequence[KeyPair], source: str = "", repeated: int = 0, equal: int = 0) -> None:
    """Write pairs of (chosen, rejected) keys beside the table in `folder`, in place of those that may be there.

    Args:
        folder: of the table.
        pairs: the pairs.
        source: name of the preferences that they come from.
        repeated: how many pairs of these were left out because they had occurred before.
        equal: how many were left out because they are of two identical texts.

    Raises:
        InputError: if there is no table, it lacks one of the responses, or the folder cannot be written.
    """
    table = FeatureTable.without_checking(folder)
    chosen, rejected = (table.locate([pair[side] for pair in pairs]) for side in (0, 1))
    order = np.argsort(chosen, kind="stable")
    prompts = {prompt for (prompt, _), _ in pairs}
    hashes = {prompt: prompt_digest(prompt) for prompt in prompts}
    prompt = np.array([hashes[chosen[0]] for chosen, _ in pairs], dtype=np.uint64)
    sides = chosen[order], rejected[order]
    write_pair_list(table, PairList(*sides, prompt[order], len(prompts), source, repeated, equal))


def write_pair_list(table: FeatureTable, pairs: PairList) -> None:
    """Write pairs by their row numbers beside the table, in place of those that may be there."""
    *columns, prompts, source, repeated, equal = pairs
    left_out = {REPEATED: str(repeated), EQUAL: str(equal)}
    schema = SCHEMA.with_metadata({TABLE: table.digest, PROMPTS: str(prompts), SOURCE: source, **left_out})
    write_atomically(table.folder / PAIRS, serialise(pa.record_batch(columns, schema=schema)))


def read_pairs(table: FeatureTable) -> PairList:
    """Map what :func:`write_pairs` wrote; nothing is copied.

    Raises:
        InputError: if the file is missing, damaged, empty, or of an earlier state of the table.
    """
    path = table.folder / PAIRS
    try:
        check_file(path)
        with pa.memory_map(str(path)) as file:
            pairs = pa.ipc.open_file(file).read_all()
        if not pairs.schema.equals(SCHEMA) or not len(pairs):
            raise ValueError
        chosen, rejected, prompt = (column.chunk(0).to_numpy(zero_copy_only=True) for column in pairs.columns)
        metadata = pairs.schema.metadata or {}
        of_table, prompts = metadata[TABLE.encode()].decode(), int(metadata[PROMPTS.encode()])
        source = metadata.get(SOURCE.encode(), b"").decode()
        repeated, equal = (int(metadata.get(key.encode(), b"0")) for key in (REPEATED, EQUAL))
    except DamagedFileError:
        raise
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
        raise InputError(
            f"{path} is not a list of response pairs; run the command that wrote {table.folder} again."
        ) from error
    if of_table != table.digest:
        raise InputError(f"{path} is older than the features beside it; rerun the command that wrote them.")
    for rows in (chosen, rejected):
        if rows.min() < 0 or rows.max() >= len(table):
            raise InputError(f"{path} names rows that the features beside it lack; rerun the command that wrote them.")
    return PairList(chosen, rejected, prompt, prompts, source, repeated, equal)
