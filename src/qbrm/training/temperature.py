"""The model's temperature, set once more after training."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from qbrm.energies.base import EnergyScore
from qbrm.energies.sqrbm import MIN_TAU, SemiQuantumRBM
from qbrm.features.pairs import Batch, Pairs
from qbrm.objectives.preference import SMALLEST_PROBABILITY, log_preference
from qbrm.training.trainer import validation_loss

BASE_PAIRS = 40


class CalibrationLoss:
    r"""Negative log-probability of validation preferences, and of a few more, labelled as the base rewards claim.

    .. math:: L = -\frac1n \sum_i \Bigl( \log P_i
              + \frac{m}{n} \bigl( q_i \log P_i + (1 - q_i) \log (1 - P_i) \bigr) \Bigr),
              \qquad q_i = \sigma(r_{0,+} - r_{0,-})

    P_i is the score's probability of pair i of n. Ten pairs that happen to be right would call for a temperature of
    zero; m pairs' worth of what the base model claims stand against that, and are lost among many pairs.

    Args:
        pairs: n.
    """

    def __init__(self, pairs: int) -> None:
        self._weight = BASE_PAIRS / pairs

    def __call__(self, model: EnergyScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over the pairs of a batch, in nats."""
        model.reseed(generator)
        right = log_preference(model, batch)
        wrong = (-right.exp()).log1p().clamp_min(math.log(SMALLEST_PROBABILITY))
        claimed = torch.sigmoid(batch.chosen_reward - batch.rejected_reward)
        return -(right + self._weight * (claimed * right + (1 - claimed) * wrong)).mean()


def calibrate_tau(score: SemiQuantumRBM, validation: Pairs) -> float:
    """Set tau to what makes the validation preferences likeliest; training alone leaves it over-confident.

    Searches between a tenth and ten times the present tau, with the other parameters as they are. Where there are few
    preferences, the base rewards' claims count as 40 more; see :class:`CalibrationLoss`.

    Returns:
        The new tau, in standardised units.
    """
    trained = float(score.log_tau.detach())
    objective = CalibrationLoss(validation.n_pairs)

    def loss(log_tau: float) -> float:
        score.log_tau.data.fill_(log_tau)
        return validation_loss(score, objective, validation, seed=0)

    low = max(trained - math.log(10), math.log(MIN_TAU))
    # A sampled loss is neither cheap nor exact enough for more than a few evaluations.
    tolerance = 0.05 if score.draws else 0.01
    bounds = (low, trained + math.log(10))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    with torch.no_grad():
        score.log_tau.fill_(min((found.x, trained), key=loss))
    return float(score.tau.detach())
