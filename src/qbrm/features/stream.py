"""Training pairs over features that are larger than memory, read from disk a window at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64, UInt64
from torch import Tensor

from qbrm.data.pairs import Batch, PairData
from qbrm.errors import InputError
from qbrm.features.pair_list import PairList, read_pairs
from qbrm.features.table import FeatureTable

BLOCK_PAIRS = 1024
WINDOW_BYTES = 256 * 2**20
CUT_PAIRS = 65_536

Blocks = Sequence[tuple[int, slice]]


class Source(NamedTuple):
    """A feature table on disk, and the pairs over it, mapped into memory."""

    table: FeatureTable
    pairs: PairList


class Share(NamedTuple):
    """The pairs on prompts whose hash, with the seed, is in [low, high) of [0, 1), whatever file a prompt is in."""

    low: float
    high: float
    seed: int

    def holds(self, prompt: UInt64[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
        """Tell which prompts are in the share."""
        place = _place(prompt, self.seed)
        return (place >= self.low) & (place < self.high)


@dataclass(frozen=True)
class StreamedPairs:
    """Preference pairs whose features stay on disk; a constant part of them is in memory at any time.

    Pairs lie in blocks of 1,024 neighbours, which share shards. A shuffled pass draws as many blocks as fit into a
    window, reads each shard they touch once, shuffles the pairs inside the window and goes on with the next: a disk is
    read in long runs, and each batch mixes a window's blocks from anywhere in the table. What fits into one window is
    trained on exactly as `PairData` would be.

    Attributes:
        sources: where features and pairs are; all of one embedding size.
        share: the prompts whose pairs these are.
        supported: whether conflicting pairs are left out, see `PairData.without_conflicts`.
        window_bytes: bytes of embeddings in memory.
        progress: called with (pairs done, pairs) after each window of a pass.
    """

    sources: tuple[Source, ...]
    share: Share
    supported: bool = False
    window_bytes: int = WINDOW_BYTES
    progress: Callable[[int, int], None] | None = None

    @property
    def dim(self) -> int:
        """Embedding size."""
        return self.sources[0].table.dim

    @cached_property
    def n_pairs(self) -> int:
        """Number of pairs; counted in one pass over pairs and, if conflicts are left out, rewards."""
        return sum(len(self._pairs(*block)[0]) for block in self._blocks)

    def responses(self) -> tuple[Float[Tensor, "responses dim"], Float[Tensor, " responses"]]:
        """The features in one window of blocks that are evenly spaced over the table, each response once."""
        picked = np.linspace(0, len(self._blocks) - 1, min(self._window, len(self._blocks))).astype(int)
        return self.load([self._blocks[block] for block in picked]).responses()

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All pairs once, `size` at a time, fewer at the end of a window; shuffled if a generator is given."""
        done = 0
        for blocks in self._windows(generator):
            # The window has no name here, so that it is gone before the next one is read.
            for batch in self.load(blocks).batches(size, generator):
                # Rows of a window number other responses in the next one, so no chain can go on by them.
                yield batch._replace(row=None)
                done += len(batch.chosen)
            if self.progress:
                self.progress(done, self.n_pairs)

    def without_conflicts(self) -> StreamedPairs:
        """Conflict-aware filtering, as in `PairData`."""
        return replace(self, supported=True)

    def digest(self) -> str:
        """Tells training data apart: changes with any feature, any pair, and the choice among them."""
        digest = hashlib.sha256(repr((self.share, self.supported, self.window_bytes)).encode())
        for table, pairs in self.sources:
            digest.update(table.digest.encode())
            for column in (pairs.chosen, pairs.rejected, pairs.prompt):
                digest.update(column.data)
        return digest.hexdigest()[:16]

    def load(self, blocks: Blocks | None = None) -> PairData:
        """Read the pairs of some blocks, or of all, into memory."""
        wanted = self._blocks if blocks is None else blocks
        numbers = sorted({number for number, _ in wanted})
        parts = [self._load_part(number, [block for source, block in wanted if source == number]) for number in numbers]
        if len(parts) == 1:
            return parts[0]
        first = np.cumsum([0, *(len(part.reward) for part in parts)]).tolist()[:-1]
        return PairData(
            torch.cat([part.embedding for part in parts]),
            torch.cat([part.reward for part in parts]),
            torch.cat([part.chosen + start for part, start in zip(parts, first, strict=True)]),
            torch.cat([part.rejected + start for part, start in zip(parts, first, strict=True)]),
        )

    def prompts(self) -> UInt64[np.ndarray, " pairs"]:
        """The hash of each pair's prompt, in the order of an unshuffled pass over all pairs, conflicting ones too."""
        return np.concatenate([pairs.prompt[self.share.holds(pairs.prompt)] for _, pairs in self.sources])

    def load_with_prompts(self) -> tuple[PairData, Int[Tensor, " responses"]]:
        """All pairs in memory, and the number of the prompt that each response answers."""
        data, of_pair = self.load(), torch.from_numpy(self.prompts().view(np.int64))
        prompt = data.chosen.new_zeros(len(data.reward))
        for side in (data.chosen, data.rejected):
            prompt[side] = of_pair
        return data, prompt

    def _windows(self, generator: torch.Generator | None) -> Iterator[Blocks]:
        order = list(range(len(self._blocks)))
        if generator is not None and len(order) > self._window:
            order = torch.randperm(len(order), generator=generator).tolist()
        for start in range(0, len(order), self._window):
            yield [self._blocks[block] for block in sorted(order[start : start + self._window])]

    def _load_part(self, number: int, blocks: Sequence[slice]) -> PairData:
        """The pairs of some blocks of one source; each response is read once."""
        pairs = [self._pairs(number, block) for block in blocks]
        chosen, rejected = (np.concatenate([block[side] for block in pairs]) for side in (0, 1))
        rows = np.unique(np.concatenate([chosen, rejected]))
        features = self.sources[number].table.take(rows)
        assert features.reward is not None
        return PairData(
            torch.from_numpy(features.embedding),
            torch.from_numpy(features.reward),
            torch.from_numpy(np.searchsorted(rows, chosen)),
            torch.from_numpy(np.searchsorted(rows, rejected)),
        )

    def _pairs(self, number: int, block: slice) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
        """Rows of the chosen and the rejected responses of a block's pairs, those left out left out."""
        table, pairs = self.sources[number]
        kept = self.share.holds(pairs.prompt[block])
        chosen, rejected = pairs.chosen[block][kept], pairs.rejected[block][kept]
        if self.supported:
            supported = table.rewards(chosen) > table.rewards(rejected)
            chosen, rejected = chosen[supported], rejected[supported]
        return chosen, rejected

    @cached_property
    def _blocks(self) -> Blocks:
        return [
            (number, slice(start, start + BLOCK_PAIRS))
            for number, source in enumerate(self.sources)
            for start in range(0, len(source.pairs.chosen), BLOCK_PAIRS)
        ]

    @property
    def _window(self) -> int:
        """Blocks in a window, two responses to a pair."""
        return max(1, self.window_bytes // (BLOCK_PAIRS * 2 * self.dim * np.dtype(np.float32).itemsize))


def open_sources(folders: Sequence[Path]) -> tuple[Source, ...]:
    """Open feature folders that one score can be trained on.

    Raises:
        InputError: if a folder is no whole table with rewards and pairs, or two come from different reward models.
    """
    sources: list[Source] = []
    for folder in folders:
        table = FeatureTable.open(folder)
        table.require_complete()
        if not table.has_reward:
            raise InputError(
                f"features in {folder} have no rewards: {table.identity} has no score layer; expected features of a "
                "reward model. 'qbrm compare' trains one on this encoder."
            )
        if sources:
            first = sources[0].table
            table.require(first.identity, first.dim, f"those in {first.folder} from")
        sources.append(Source(table, read_pairs(table)))
    return tuple(sources)


def cut_off(sources: Sequence[Source], share: float, seed: int) -> float:
    """Where to cut [0, 1), so that the first part holds that share of the prompts, see `Share`.

    Exact up to 65,536 pairs; more are judged by as many, evenly spaced. At least one prompt is on each side, if there
    are two.
    """
    every = -(-sum(len(source.pairs.prompt) for source in sources) // CUT_PAIRS)
    prompts = np.unique(np.concatenate([source.pairs.prompt[::every] for source in sources]))
    place = np.sort(_place(prompts, seed))
    first = min(max(1, round(share * len(place))), len(place) - 1)
    return float(place[first])


def _place(prompt: UInt64[np.ndarray, " n"], seed: int) -> Float64[np.ndarray, " n"]:
    hashed = _mixed(prompt ^ _mixed(np.array([seed], dtype=np.uint64)))
    place: Float64[np.ndarray, " n"] = (hashed >> np.uint64(11)) / 2.0**53
    return place


def _mixed(bits: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, 2014): every bit of the input moves every bit of the output."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, " n"] = bits ^ (bits >> np.uint64(31))
    return mixed
