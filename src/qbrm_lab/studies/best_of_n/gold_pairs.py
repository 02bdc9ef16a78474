"""Preference pairs made of gold: the candidate that the judge clearly prefers is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm_lab.studies.best_of_n.worth import JudgedPool

# Gold is a probability of winning, and most of it is near zero or one: half is a clear difference.
LEAST_DIFFERENCE = 0.5
# A file of 56 candidates to a prompt has tens of thousands of pairs, which share few responses.
MOST_PAIRS = 10_000


def gold_pairs(
    pools: Sequence[JudgedPool], embedding: Float[Tensor, "responses dim"], reward: Float[Tensor, " responses"]
) -> PairData:
    """All pairs of candidates to one prompt whose gold differs by half or more, or a random sample of them.

    Args:
        pools: prompts to train on.
        embedding: of every row of the feature table.
        reward: base rewards of every row.
    """
    sides: list[list[Tensor]] = [[], []]
    for pool in pools:
        better = pool.gold[:, None] - pool.gold >= LEAST_DIFFERENCE
        for side, places in zip(sides, np.nonzero(better), strict=True):
            side.append(pool.rows[torch.from_numpy(places)])
    chosen, rejected = (torch.cat(side) for side in sides)
    different = chosen != rejected  # the same text twice, judged twice
    return PairData(embedding, reward, chosen[different], rejected[different]).sample(MOST_PAIRS)
