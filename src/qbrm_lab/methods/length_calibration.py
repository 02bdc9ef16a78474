"""The reward model without what it gives for length alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from statsmodels.nonparametric.smoothers_lowess import lowess
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features

# Share of the responses that each local line is fitted to: what the published code takes on RewardBench.
SHARE = 0.5
# Lengths at which the regression is evaluated, as quantiles of those seen; a line joins them.
KNOTS = 200


@dataclass(frozen=True)
class LengthCalibratedBase:
    """Base reward less what is expected of a response of its length, by local regression.

    No label is used. The regression (LOWESS; Cleveland, 1979, JASA 74, 829) is fitted to the training responses; beyond
    the lengths among them it is level. Huang et al. (2024), arXiv 2409.17407, section 3.
    """

    name: str = "base:length"

    def fit(self, task: Task) -> Fitted:
        """Fit the regression, and set one temperature on the validation pairs."""
        assert isinstance(task.pairs, PairData)
        seen = task.features.rows(task.pairs.rows())
        lengths, expected = regression(seen.length.double().numpy(), seen.reward.double().numpy())

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            bias = np.interp(features.length.double().numpy(), lengths, expected)
            return features.reward - torch.from_numpy(bias).to(features.reward)

        return Fitted(rewards, tempered(rewards, task))


def regression(
    length: Float64[np.ndarray, " responses"], reward: Float64[np.ndarray, " responses"]
) -> tuple[Float64[np.ndarray, " knots"], Float64[np.ndarray, " knots"]]:
    """Lengths, ascending, and the rewards that a local regression expects there.

    What half of the responses or more have for a length has their mean; lengths at which there is no line are left out.
    """
    knots = np.unique(np.quantile(length, np.linspace(0, 1, KNOTS)))
    with np.errstate(invalid="ignore"):  # no line goes through responses of one length
        expected = lowess(reward, length, frac=SHARE, xvals=knots)
    lengths, count = np.unique(length, return_counts=True)
    for often in lengths[count >= SHARE * len(length)]:
        expected[knots == often] = reward[length == often].mean()
    known = np.isfinite(expected)
    if not known.any():  # too few responses for a line
        return knots[:1], np.array([reward.mean()])
    return knots[known], expected[known]
