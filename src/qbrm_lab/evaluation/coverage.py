"""Do intervals contain what they are intervals of as often as they say?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Coverage(NamedTuple):
    """The share of intervals that contain the truth, and its standard error if they do so independently."""

    share: float
    error: float


def interval_coverage(
    truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> Coverage:
    """The share of intervals [low, high] that contain the true value, ends included."""
    share = float(((low <= truth) & (truth <= high)).mean())
    return Coverage(share, math.sqrt(share * (1 - share) / len(truth)))
