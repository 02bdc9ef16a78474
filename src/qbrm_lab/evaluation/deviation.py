"""Does the standard deviation of r tell where the refined reward errs?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

BINS = 10


class DeviationBins(NamedTuple):
    """Mean predicted deviation and error rate of the pairs in each bin, from the smallest deviation to the greatest."""

    deviation: Float64[np.ndarray, " bins"]
    error: Float64[np.ndarray, " bins"]
    pairs: Int[np.ndarray, " bins"]


def deviation_bins(
    deviation: Float64[np.ndarray, " pairs"], right: Float64[np.ndarray, " pairs"], bins: int = BINS
) -> DeviationBins:
    """Group pairs by predicted deviation into bins of equally many, as far as that is possible.

    Args:
        deviation: standard deviation that a score predicts for each pair's difference of rewards.
        right: 1 where the pair is decided rightly, 0 where wrongly, 0.5 where not at all.
        bins: how many; fewer if there are fewer pairs.
    """
    order = np.argsort(deviation, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return DeviationBins(
        np.array([deviation[part].mean() for part in parts]),
        np.array([1 - right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def error_auroc(deviation: Float64[np.ndarray, " pairs"], right: Float64[np.ndarray, " pairs"]) -> float | None:
    r"""P(deviation of a wrongly decided pair > deviation of a rightly decided one), ties counted half.

    .. math:: \mathrm{AUROC} = \frac{1}{|W|\,|R|} \sum_{i \in W} \sum_{j \in R}
              \bigl([\sigma_i > \sigma_j] + \tfrac12 [\sigma_i = \sigma_j]\bigr)

    The area under the receiver operating characteristic of the deviation as a sign of error, as in Hendrycks & Gimpel
    (2017), arXiv 1610.02136: 0.5 where the deviation knows nothing of errors. Pairs that are not decided (`right` of
    0.5) are left out.

    Returns:
        The area, or None if all decisions are right or all are wrong.
    """
    (auroc,) = resampled_aurocs(deviation, right, np.ones((1, len(deviation))))
    return None if np.isnan(auroc) else float(auroc)


def resampled_aurocs(
    deviation: Float64[np.ndarray, " pairs"],
    right: Float64[np.ndarray, " pairs"],
    counts: Float64[np.ndarray, "resamples pairs"],
) -> Float64[np.ndarray, " resamples"]:
    """`error_auroc` of resamples, which have each pair `counts` times; NaN where all decisions are right or wrong."""
    order = np.argsort(deviation, kind="stable")
    _, first = np.unique(deviation[order], return_index=True)
    n_right, n_wrong = (np.add.reduceat((counts * (right == value))[:, order], first, axis=1) for value in (1, 0))
    beaten = n_right.cumsum(1) - n_right / 2
    both = n_right.sum(1) * n_wrong.sum(1)
    aurocs: Float64[np.ndarray, " resamples"] = np.full(len(counts), np.nan)
    np.divide((n_wrong * beaten).sum(1), both, out=aurocs, where=both > 0)
    return aurocs
