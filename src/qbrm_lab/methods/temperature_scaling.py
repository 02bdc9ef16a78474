"""Calibrated probabilities for methods that only give point rewards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from qbrm.fitting.calibration import margin_temperature
from qbrm_lab.methods.base import LogPreference, Rewards, Task
from qbrm_lab.responses import Features


def tempered(rewards: Rewards, task: Task) -> LogPreference:
    r"""Log sigma((r_chosen - r_rejected) / T) with the T that makes the validation preferences likeliest.

    So methods are compared by what they know and not by their units, see
    :func:`~qbrm.fitting.calibration.margin_temperature`.
    """
    return tempered_together([rewards], [task])


def tempered_together(rewards: Sequence[Rewards], tasks: Sequence[Task]) -> LogPreference:
    """The same with one T for the members of a committee, set on what was held out of each."""
    margin = torch.cat([_margins(member, task) for member, task in zip(rewards, tasks, strict=True)])
    temperature = margin_temperature(margin, torch.cat([_base_margins(task) for task in tasks]))

    def log_preference(
        features: Features, rewards: Tensor, chosen: Int[Tensor, " pairs"], rejected: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        return functional.logsigmoid((rewards[chosen] - rewards[rejected]) / temperature)

    return log_preference


def _base_margins(task: Task) -> Float[Tensor, " pairs"]:
    validation = task.validation
    return validation.reward[validation.chosen] - validation.reward[validation.rejected]


def _margins(rewards: Rewards, task: Task) -> Float[Tensor, " pairs"]:
    rows = task.validation.rows()
    reward = torch.full((len(task.features.reward),), torch.nan)
    reward[rows] = rewards(task.features.rows(rows)).detach().float()
    return reward[task.validation.chosen] - reward[task.validation.rejected]
