"""Does a method know when it does not know? Accuracy when it may abstain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int

from qbrm.evaluation.calibration import decisions

POINTS = 50
DECIMALS = 12


def selective_risk(log_probability: Float64[np.ndarray, " pairs"]) -> Float64[np.ndarray, " pairs"]:
    r"""Error rate among the k pairs that are decided with the greatest certainty, for k = 1, ..., n.

    .. math:: R_k = \frac1k \sum_{i=1}^{k} \ell_{(i)}, \qquad
              \kappa_{(1)} \ge \dots \ge \kappa_{(n)}, \quad \kappa = \max(P, 1 - P)

    The risk-coverage curve at coverage k / n (Geifman & El-Yaniv, 2017, arXiv 1705.08500). A pair with P = 1/2 is half
    an error. Pairs of equal certainty come in no order, so each counts with their mean error: what a random order gives
    on average.
    """
    order, error = _from_most_certain(log_probability)
    return _running_mean(error[order])


def oracle_risk(log_probability: Float64[np.ndarray, " pairs"]) -> Float64[np.ndarray, " pairs"]:
    """`selective_risk` of the same decisions, were every right one more certain than every wrong one."""
    return _running_mean(np.sort(1 - decisions(log_probability).right))


def area(risk: Float64[np.ndarray, " pairs"]) -> float:
    """Area under the risk-coverage curve (AURC): the mean risk over all coverages.

    Less the oracle's area, it is the excess area (E-AURC), which ordering alone is to blame for; both from Geifman,
    Uziel & El-Yaniv (2019), arXiv 1805.08206.
    """
    return float(risk.mean())


def resampled_areas(
    log_probability: Float64[np.ndarray, " pairs"], counts: Float64[np.ndarray, "resamples pairs"]
) -> Float64[np.ndarray, " resamples"]:
    """AURC of resamples, which have each pair `counts` times."""
    order, error = _from_most_certain(log_probability)
    counts = counts[:, order]
    decided = counts.cumsum(1)
    # Before a resample's first pair nothing is decided, and nothing counts.
    risk = (counts * error[order]).cumsum(1) / np.maximum(decided, 1)
    areas: Float64[np.ndarray, " resamples"] = np.einsum("rp,rp->r", counts, risk) / decided[:, -1]
    return areas


def curve_points(pairs: int) -> Int[np.ndarray, " points"]:
    """Numbers of pairs at which a curve is drawn: at most 50, evenly spaced, the last of them all pairs."""
    return np.unique(np.ceil(np.arange(1, POINTS + 1) * pairs / POINTS).astype(int))


def _from_most_certain(
    log_probability: Float64[np.ndarray, " pairs"],
) -> tuple[Int[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """The pairs in order of falling certainty, and each pair's error, shared among pairs of equal certainty."""
    confidence, right = decisions(log_probability)
    confidence = confidence.round(DECIMALS)  # P and 1 - P are equally certain, whatever the rounding of their logs
    _, group = np.unique(confidence, return_inverse=True)
    error = np.bincount(group, 1 - right) / np.bincount(group)
    return np.argsort(-confidence, kind="stable"), error[group]


def _running_mean(error: Float64[np.ndarray, " pairs"]) -> Float64[np.ndarray, " pairs"]:
    means: Float64[np.ndarray, " pairs"] = error.cumsum() / np.arange(1, len(error) + 1)
    return means
