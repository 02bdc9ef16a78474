"""Calibrated probabilities for methods that only give point rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from qbrm.fitting.calibration import BASE_PAIRS
from qbrm_lab.methods.base import LogPreference, Rewards, Task
from qbrm_lab.responses import Features


def tempered(rewards: Rewards, task: Task) -> LogPreference:
    r"""Log sigma((r_chosen - r_rejected) / T) with the T that makes the validation preferences likeliest.

    Temperature scaling (Guo et al., 2017, arXiv 1706.04599): what tau is to the Boltzmann scores, so that methods are
    compared by what they know and not by their units. As there, the base rewards' claims count as some more pairs (see
    :class:`~qbrm.fitting.calibration.CalibrationLoss`).
    """
    return tempered_together([rewards], [task])


def tempered_together(rewards: Sequence[Rewards], tasks: Sequence[Task]) -> LogPreference:
    """The same with one T for the members of a committee, set on what was held out of each."""
    parts = [_margins(member, task).double() for member, task in zip(rewards, tasks, strict=True)]
    margin, claimed = torch.cat(parts), torch.cat([_claimed(task) for task in tasks])
    size = math.log(float(margin.abs().mean().clamp_min(1e-6)))
    right, wrong = 1 + BASE_PAIRS / len(margin) * claimed, BASE_PAIRS / len(margin) * (1 - claimed)

    def loss(log_temperature: float) -> float:
        tempered = margin / math.exp(log_temperature)
        return -float((right * functional.logsigmoid(tempered) + wrong * functional.logsigmoid(-tempered)).mean())

    best = minimize_scalar(loss, bounds=(size - 4, size + 5), method="bounded", options={"xatol": 1e-3})
    temperature = math.exp(best.x)

    def log_preference(
        features: Features, rewards: Tensor, chosen: Int[Tensor, " pairs"], rejected: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        return functional.logsigmoid((rewards[chosen] - rewards[rejected]) / temperature)

    return log_preference


def _claimed(task: Task) -> Float[Tensor, " pairs"]:
    """P(chosen > rejected) of the base rewards."""
    validation = task.validation
    return torch.sigmoid(validation.reward[validation.chosen] - validation.reward[validation.rejected]).double()


def _margins(rewards: Rewards, task: Task) -> Float[Tensor, " pairs"]:
    rows = task.validation.rows()
    reward = torch.full((len(task.features.reward),), torch.nan)
    reward[rows] = rewards(task.features.rows(rows)).detach().float()
    return reward[task.validation.chosen] - reward[task.validation.rejected]
