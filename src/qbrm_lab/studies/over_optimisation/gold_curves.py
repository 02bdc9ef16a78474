"""Gold reward against KL: means over pools and seeds, their intervals, and where curves peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from qbrm.evaluation import interval
from qbrm.evaluation.bootstrap import RESAMPLES
from qbrm_lab.evaluation.best_of_n import best_of_n, best_of_n_kl
from qbrm_lab.results.study_rows import CurveRow, PeakRow

Curve = Float64[np.ndarray, "pools sizes"]


class Pool(NamedTuple):
    """Responses to one prompt to choose from.

    Attributes:
        gold: their gold rewards.
        proxies: their rewards by method.
    """

    gold: Float[np.ndarray, " pool"]
    proxies: Mapping[str, Float[np.ndarray, " pool"]]


class Curves(NamedTuple):
    """One seed's curves, pool by pool.

    Attributes:
        n: numbers of responses to choose from.
        gold: expected gold reward of the winner, by method.
        proxy: expected reward of the winner by the method itself, in deviations from the pool's mean.
    """

    n: tuple[int, ...]
    gold: dict[str, Curve]
    proxy: dict[str, Curve]


def curves_of(pools: Sequence[Pool], n: Sequence[int]) -> Curves:
    """Best-of-n in every pool, by every method.

    Args:
        pools: one or more, with the same methods.
        n: up to the size of the smallest pool.
    """
    gold = {
        method: np.stack([best_of_n(pool.gold, pool.proxies[method], n) for pool in pools])
        for method in pools[0].proxies
    }
    proxy = {method: np.stack([_of_itself(pool.proxies[method], n) for pool in pools]) for method in pools[0].proxies}
    return Curves(tuple(n), gold, proxy)


def standardised(reward: Float[np.ndarray, " pool"]) -> Float64[np.ndarray, " pool"]:
    """Deviations from the pool's mean, in standard deviations; zeros if the rewards are all the same."""
    centred = reward.astype(np.float64) - reward.mean(dtype=np.float64)
    scale = centred.std()
    standard: Float64[np.ndarray, " pool"] = centred / scale if scale > 0 else centred
    return standard


def _of_itself(reward: Float[np.ndarray, " pool"], n: Sequence[int]) -> Float64[np.ndarray, " sizes"]:
    standard = standardised(reward)
    return best_of_n(standard, standard, n)


def curve_rows(seeds: Mapping[int, Curves]) -> list[CurveRow]:
    """The mean over pools of every seed, and the mean over seeds, with intervals.

    Args:
        seeds: curves by seed, with the same methods, n and number of pools.
    """
    rows: list[CurveRow] = []
    for seed, part in [*((seed, {seed: curves}) for seed, curves in seeds.items()), (None, seeds)]:
        resamples = _Resamples(part)
        for method, values in _by_method(part).items():
            intervals = [interval(sample) for sample in resamples.means(values).T]
            n, proxies = _sizes(part), np.mean([curves.proxy[method] for curves in part.values()], axis=(0, 1))
            columns = zip(n, best_of_n_kl(n), np.mean(values, axis=(0, 1)), intervals, proxies, strict=True)
            rows += [
                CurveRow(
                    method=method,
                    seed=seed,
                    n=size,
                    kl=float(kl),
                    gold=float(gold),
                    ci_low=low,
                    ci_high=high,
                    proxy=float(proxy),
                )
                for size, kl, gold, (low, high), proxy in columns
            ]
    return rows


def peak_rows(seeds: Mapping[int, Curves]) -> list[PeakRow]:
    """Where the mean curve of every method is highest.

    Args:
        seeds: as for :func:`curve_rows`.
    """
    resamples, curves, n = _Resamples(seeds), _by_method(seeds), _sizes(seeds)
    return [_peak(method, n, values, curves.get("base"), resamples) for method, values in curves.items()]


def _peak(
    method: str, n: Sequence[int], values: Sequence[Curve], base: Sequence[Curve] | None, resamples: _Resamples
) -> PeakRow:
    gold = np.mean(values, axis=(0, 1))
    peak = int(gold.argmax())
    loss_low, loss_high = interval(resamples.means([curve[:, [peak]] - curve[:, [-1]] for curve in values])[:, 0])
    over_base, over_low, over_high = None, None, None
    if base is not None and method != "base":
        ahead = [curve[:, [-1]] - of_base[:, [-1]] for curve, of_base in zip(values, base, strict=True)]
        over_base = float(np.mean(ahead))
        over_low, over_high = interval(resamples.means(ahead)[:, 0])
    return PeakRow(
        method=method,
        peak_n=n[peak],
        peak_kl=float(best_of_n_kl([n[peak]])[0]),
        peak_gold=float(gold[peak]),
        last_n=n[-1],
        last_gold=float(gold[-1]),
        loss=float(gold[peak] - gold[-1]),
        ci_low=loss_low,
        ci_high=loss_high,
        peaks=loss_low > 0,
        over_base=over_base,
        over_base_low=over_low,
        over_base_high=over_high,
    )


def _by_method(seeds: Mapping[int, Curves]) -> dict[str, list[Curve]]:
    first = next(iter(seeds.values()))
    return {method: [curves.gold[method] for curves in seeds.values()] for method in first.gold}


def _sizes(seeds: Mapping[int, Curves]) -> tuple[int, ...]:
    return next(iter(seeds.values())).n


class _Resamples:
    """Bootstrap over seeds, and over the pools of each seed that is drawn; all methods see the same resamples.

    Pools of one seed share the world and the trained proxies, so pools alone would claim too much.
    """

    def __init__(self, seeds: Mapping[int, Curves]) -> None:
        first = next(iter(seeds.values()))
        pools = len(next(iter(first.gold.values())))
        generator = np.random.default_rng(0)
        self._seed = generator.integers(len(seeds), size=(RESAMPLES, len(seeds)))
        self._weights = generator.multinomial(pools, np.full(pools, 1 / pools), size=self._seed.shape) / pools

    def means(self, values: Sequence[Float64[np.ndarray, "pools sizes"]]) -> Float64[np.ndarray, "resamples sizes"]:
        """Mean over the pools drawn, of the seeds drawn.

        Args:
            values: by seed.
        """
        total = np.zeros((RESAMPLES, values[0].shape[1]))
        for drawn, weights in zip(self._seed.T, self._weights.swapaxes(0, 1), strict=True):
            for seed, value in enumerate(values):
                total[drawn == seed] += weights[drawn == seed] @ value
        mean: Float64[np.ndarray, "resamples sizes"] = total / self._seed.shape[1]
        return mean
