"""Calibration of the probabilities of preferences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

BINS = 10
ROUNDING = 1e-6


class Reliability(NamedTuple):
    """Mean confidence and accuracy of the pairs in each non-empty bin of confidence, from 0.5 to 1."""

    confidence: Float64[np.ndarray, " bins"]
    accuracy: Float64[np.ndarray, " bins"]
    pairs: Int[np.ndarray, " bins"]


class Decisions(NamedTuple):
    """Decisions by probabilities, pair by pair.

    Attributes:
        confidence: max(P, 1 - P), the probability of the preferred side, from 0.5 to 1.
        right: 1 where the chosen response is preferred, 0 where the rejected one is, 0.5 where P = 1/2 prefers neither.
    """

    confidence: Float64[np.ndarray, " pairs"]
    right: Float64[np.ndarray, " pairs"]


def decisions(log_probability: Float64[np.ndarray, " pairs"]) -> Decisions:
    """Decide for the likelier side of every pair, by log P(chosen > rejected)."""
    probability = np.exp(log_probability)
    right = np.where(np.abs(probability - 0.5) < ROUNDING, 0.5, probability > 0.5)
    return Decisions(np.maximum(probability, 1 - probability), right)


def reliability(log_probability: Float64[np.ndarray, " pairs"]) -> Reliability:
    """Bin pairs by the confidence of their decision; P = 1/2 counts as half right."""
    confidence, right = decisions(log_probability)
    index = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    filled = count > 0
    means = [np.bincount(index, values, BINS)[filled] / count[filled] for values in (confidence, right)]
    return Reliability(means[0], means[1], count[filled])


def expected_calibration_error(log_probability: Float64[np.ndarray, " pairs"]) -> float:
    """Mean gap between confidence and accuracy over ten equal bins, weighted by pairs.

    Guo et al. (2017), arXiv 1706.04599, eq. 3.
    """
    bins = reliability(log_probability)
    return float(np.average(np.abs(bins.confidence - bins.accuracy), weights=bins.pairs))
