"""Results of one method on one set of a test, item by item."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int


class Items(NamedTuple):
    """The items of one set of a test, as rows of a feature table.

    An item is one preference: a pair, or a best-of-n with several rejected responses.

    Attributes:
        prompt: index of each item's prompt.
        category: index of each item's category.
        chosen: row of each item's chosen response.
        pair_item: item of each (chosen, rejected) pair.
        pair_chosen: row of each pair's chosen response.
        pair_rejected: row of each pair's rejected response.
        prompts: number of prompts.
        categories: names of the categories.
    """

    prompt: Int[np.ndarray, " items"]
    category: Int[np.ndarray, " items"]
    chosen: Int[np.ndarray, " items"]
    pair_item: Int[np.ndarray, " pairs"]
    pair_chosen: Int[np.ndarray, " pairs"]
    pair_rejected: Int[np.ndarray, " pairs"]
    prompts: int
    categories: tuple[str, ...]


class Outcomes(NamedTuple):
    """One method's results, item by item.

    Attributes:
        correct: whether the chosen response beats every rejected one; a tie is wrong, as in RMB (Zhou et al., 2024,
            arXiv 2410.09893).
        log_probability: log P(chosen > rejected) of each pair; None from a method without probabilities.
        sampling: the variation of the other two between samplings; None from a method that does not sample.
        deviation: standard deviation of r_chosen - r_rejected for each pair, with independent r ~ p(r | e), in the
            reward model's units; None from a method without an energy score.
        margin: reward of the chosen response less that of the rejected one, for each pair; None if not known.
    """

    correct: Bool[np.ndarray, " items"]
    log_probability: Float64[np.ndarray, " pairs"] | None
    sampling: Sampling | None = None
    deviation: Float64[np.ndarray, " pairs"] | None = None
    margin: Float64[np.ndarray, " pairs"] | None = None


class Sampling(NamedTuple):
    """The outcomes of one method under other draws of its sampler.

    Attributes:
        effective_samples: independent states that would leave E[r | e] as uncertain as those drawn.
        redrawn: outcomes from independent draws.
    """

    effective_samples: float
    redrawn: tuple[Outcomes, ...]


def is_correct(items: Items, reward: Float[np.ndarray, " rows"]) -> Bool[np.ndarray, " items"]:
    """Whether each item's chosen response has the strictly greatest reward."""
    beaten = reward[items.pair_chosen] > reward[items.pair_rejected]
    correct = np.ones(len(items.prompt), dtype=bool)
    np.logical_and.at(correct, items.pair_item, beaten)
    return correct
