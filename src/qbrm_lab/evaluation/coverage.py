"""Do intervals contain what they are intervals of as often as they say?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Coverage(NamedTuple):
    """How often intervals contain the truth.

    Attributes:
        share: of the intervals that do.
        error: the share's standard error, were each interval to contain the truth independently of the others.
    """

    share: float
    error: float


def interval_coverage(
    truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> Coverage:
    """The share of intervals [low, high] that contain the true value, ends included.

    Args:
        truth: what was really there.
        low: lower end of each interval.
        high: upper end of each interval.
    """
    share = float(((low <= truth) & (truth <= high)).mean())
    return Coverage(share, math.sqrt(share * (1 - share) / len(truth)))
