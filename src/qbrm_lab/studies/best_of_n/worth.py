"""What choosing by a reward is worth: mean gold over n, with intervals by prompt, paired with the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from torch import Tensor

from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm_lab.evaluation.best_of_n import best_of_n
from qbrm_lab.results.study_rows import BestOfNRow

BASE = "base"

Worth = Float64[np.ndarray, "pools sizes"]


class JudgedPool(NamedTuple):
    """A test prompt: the rows of its candidates in the feature table, and their gold."""

    prompt_id: str
    rows: Int[Tensor, " pool"]
    gold: Float[np.ndarray, " pool"]


class SeedWorth(NamedTuple):
    """One seed's curves on one file: the test prompt of each pool, and by method what its choice is worth."""

    prompts: Sequence[str]
    methods: Mapping[str, Worth]


def sizes_of(largest: int) -> tuple[int, ...]:
    """Numbers of candidates to choose from: powers of two, and all."""
    return (*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest)


def worth_of(pools: Sequence[JudgedPool], reward: Float[np.ndarray, " responses"], sizes: Sequence[int]) -> Worth:
    """Expected gold of the candidate with the greatest reward among n, in every pool, over all draws of n.

    A prompt with fewer than n candidates offers all that it has.

    Args:
        pools: the test prompts.
        reward: of every row of the feature table; only those of the pools matter.
        sizes: the numbers n.
    """
    return np.stack(
        [best_of_n(pool.gold, reward[pool.rows.numpy()], [min(n, len(pool.gold)) for n in sizes]) for pool in pools]
    )


def rows_of_seed(file: str, seed: int, sizes: Sequence[int], worth: SeedWorth) -> list[BestOfNRow]:
    """The rows of one seed."""
    return _rows(file, seed, sizes, [worth])


def rows_over_seeds(file: str, sizes: Sequence[int], seeds: Sequence[SeedWorth]) -> list[BestOfNRow]:
    """The means over seeds, each of which has test prompts of its own; a prompt in several is resampled as one."""
    return _rows(file, None, sizes, seeds)


def _rows(file: str, seed: int | None, sizes: Sequence[int], seeds: Sequence[SeedWorth]) -> list[BestOfNRow]:
    prompts = np.concatenate([list(worth.prompts) for worth in seeds])
    bootstrap = PromptBootstrap(TestPairs(np.unique(prompts, return_inverse=True)[1]))
    base = np.concatenate([worth.methods[BASE] for worth in seeds])
    rows = []
    # Where a seed had too little gold to learn from, what others learned from gold is left out.
    for method in (name for name in seeds[0].methods if all(name in worth.methods for worth in seeds)):
        gold = np.concatenate([worth.methods[method] for worth in seeds])
        for n, values, of_base in zip(sizes, gold.T, base.T, strict=True):
            (low, high), (over_low, over_high) = (
                bootstrap.intervals(part)["all"] for part in (values, values - of_base)
            )
            rows.append(
                BestOfNRow(
                    file=file,
                    method=method,
                    seed=seed,
                    n=n,
                    gold=float(values.mean()),
                    ci_low=low,
                    ci_high=high,
                    over_base=float((values - of_base).mean()),
                    over_base_low=over_low,
                    over_base_high=over_high,
                )
            )
    return rows
