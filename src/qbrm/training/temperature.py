"""The model's temperature, set once more after training."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar

from qbrm.energies.sqrbm import MIN_TAU, SemiQuantumRBM
from qbrm.features.pairs import Pairs
from qbrm.objectives.preference import PreferenceLikelihood
from qbrm.training.trainer import validation_loss


def calibrate_tau(score: SemiQuantumRBM, validation: Pairs) -> float:
    """Set tau to what makes the validation preferences likeliest; training alone leaves it over-confident.

    Searches between a tenth and ten times the present tau, with the other parameters as they are.

    Returns:
        The new tau, in standardised units.
    """
    trained = float(score.log_tau.detach())

    def loss(log_tau: float) -> float:
        score.log_tau.data.fill_(log_tau)
        return validation_loss(score, PreferenceLikelihood(), validation, seed=0)

    low = max(trained - math.log(10), math.log(MIN_TAU))
    # A sampled loss is neither cheap nor exact enough for more than a few evaluations.
    tolerance = 0.05 if score.draws else 0.01
    bounds = (low, trained + math.log(10))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    with torch.no_grad():
        score.log_tau.fill_(min((found.x, trained), key=loss))
    return float(score.tau.detach())
