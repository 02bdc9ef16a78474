"""Which prompts test, which vouch for the strength, which train, and which of those validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from qbrm.errors import InputError
from qbrm.features.stream import Share, Source, StreamedPairs, cut_off
from qbrm.fitting.arrays import VALIDATION_SHARE

TEST_SHARE = 0.2
# Prompts beyond the test from which on a fifth of them is set apart to vouch for the strength; below, all train, and
# each is judged by a score that others trained.
MANY_PROMPTS, VOUCHING_SHARE = 5000, 0.2
FEWEST_PROMPTS = 10
MEMORY_BYTES = 2**30


@dataclass(frozen=True)
class Division:
    """Shares of the prompts, by a hash of each and the seed: the same whatever files the prompts are in.

    Attributes:
        sources: features and pairs on disk.
        test: measures the verdict and chooses nothing.
        vouching: shows how far to go; None where prompts are few.
        training: all others.
        validation: the part of the training prompts that chooses epoch and temperature of a single score.
    """

    sources: tuple[Source, ...]
    test: Share
    vouching: Share | None
    training: Share
    validation: Share

    @classmethod
    def of(cls, sources: Sequence[Source], seed: int) -> Division:
        """Divide the prompts.

        Raises:
            InputError: if there are too few.
        """
        prompts = sum(source.pairs.prompts for source in sources)
        if prompts < FEWEST_PROMPTS:
            raise InputError(
                f"{prompts} prompts with pairs of different responses; expected at least {FEWEST_PROMPTS}, to train, "
                "choose and test on different ones."
            )
        many = prompts * (1 - TEST_SHARE) >= MANY_PROMPTS
        first = TEST_SHARE + (VOUCHING_SHARE * (1 - TEST_SHARE) if many else 0.0)
        last = first + VALIDATION_SHARE * (1 - first)
        test, trained, validated = (cut_off(sources, share, seed) for share in (TEST_SHARE, first, last))
        return cls(
            tuple(sources),
            Share(0.0, test, seed),
            Share(test, trained, seed) if many else None,
            Share(trained, 1.0, seed),
            Share(trained, validated, seed),
        )

    def pairs(self, share: Share) -> StreamedPairs:
        """The pairs of a share, on disk."""
        return StreamedPairs(self.sources, share, window_bytes=MEMORY_BYTES)

    def rows(self, share: Share) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
        """Rows of the chosen and the rejected responses, in the same order; of one source only."""
        ((_, pairs),) = self.sources
        kept = share.holds(pairs.prompt)
        return pairs.chosen[kept], pairs.rejected[kept]

    @property
    def most_in_memory(self) -> int:
        """How many pairs may be read as a whole, two responses each."""
        return MEMORY_BYTES // (2 * self.sources[0].table.dim * np.dtype(np.float32).itemsize)

    def fits_in_memory(self, share: Share) -> bool:
        """Whether the features of a share may be read as a whole."""
        return len(self.pairs(share).prompts()) <= self.most_in_memory

    def sample(self, share: Share, pairs: int) -> Share:
        """Part of a share with about so many pairs, or all of it."""
        total = len(self.pairs(share).prompts())
        if total <= pairs:
            return share
        return share._replace(high=share.low + (share.high - share.low) * pairs / total)
