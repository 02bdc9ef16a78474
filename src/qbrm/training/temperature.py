"""The model's temperature, set once more after training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from qbrm.energies.base import EnergyScore
from qbrm.energies.sqrbm import MIN_TAU, SemiQuantumRBM
from qbrm.features.pairs import Batch, Pairs
from qbrm.objectives.base import Objective
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
    calibrate_together([score], [validation])
    return float(score.tau.detach())


def calibrate_together(scores: Sequence[SemiQuantumRBM], held_out: Sequence[Pairs]) -> None:
    """Change every score's tau by one factor, the one that makes the pairs held out of each likeliest, all together.

    Args:
        scores: to calibrate, as in :func:`calibrate_tau`.
        held_out: for each score, the pairs that it was not trained on.
    """
    trained = [float(score.log_tau.detach()) for score in scores]
    objective = CalibrationLoss(sum(pairs.n_pairs for pairs in held_out))

    def loss(log_factor: float) -> float:
        for score, log_tau in zip(scores, trained, strict=True):
            score.log_tau.data.fill_(max(log_tau + log_factor, math.log(MIN_TAU)))
        return loss_together(scores, objective, held_out)

    # A sampled loss is neither cheap nor exact enough for more than a few evaluations.
    tolerance = 0.05 if any(score.draws for score in scores) else 0.01
    found = minimize_scalar(loss, bounds=(-math.log(10), math.log(10)), method="bounded", options={"xatol": tolerance})
    loss(min((float(found.x), 0.0), key=loss))


def loss_together(
    scores: Sequence[SemiQuantumRBM], objective: Objective[SemiQuantumRBM], held_out: Sequence[Pairs]
) -> float:
    """Mean loss over the pairs of all parts, each judged by the score at its place."""
    parts = [
        (validation_loss(score, objective, pairs, seed=0), pairs.n_pairs)
        for score, pairs in zip(scores, held_out, strict=True)
    ]
    return sum(loss * pairs for loss, pairs in parts) / sum(pairs for _, pairs in parts)
