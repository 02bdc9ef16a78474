"""Ensembles of reward models that differ in their seed only, the paper's baselines against over-optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError
from qbrm_lab.methods.base import Fitted, Task, base_reward
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features

MEMBERS = 5
UNCERTAINTY_WEIGHT = 0.5

Combination = Callable[[Float[Tensor, "members responses"]], Float[Tensor, " responses"]]


COMBINATIONS: dict[str, Combination] = {
    "mean": lambda rewards: rewards.mean(0),
    "worst": lambda rewards: rewards.amin(0),
    "uncertainty": lambda rewards: rewards.mean(0) - UNCERTAINTY_WEIGHT * rewards.var(0),
}


@dataclass(frozen=True)
class BaseEnsemble:
    """Five embedded reward models trained on the same preferences, combined; nothing learns from the refinement set.

    Every member's rewards are standardised with the validation pairs' responses first, since each has units and a
    zero of its own. Coste et al. (2024), arXiv 2310.02743, section 4. `combination` is a name in `COMBINATIONS`.
    """

    name: str
    combination: str

    def fit(self, task: Task) -> Fitted:
        """Train four more reward models; one temperature is set on the validation pairs.

        Raises:
            InputError: if the reward model came trained, so that there is nothing to train again.
        """
        if task.member is None:
            raise InputError(
                f"{self.name} trains the reward model again with other seeds, and this one came trained; expected the "
                "embedded reward model, or --methods without it."
            )
        members = [base_reward, *(task.member(index) for index in range(1, MEMBERS))]
        known = task.features.rows(task.validation.rows())
        units = [(float(reward.mean()), float(reward.std())) for reward in (member(known) for member in members)]

        def standardised(features: Features) -> Float[Tensor, "members responses"]:
            parts = zip(members, units, strict=True)
            return torch.stack([(member(features) - loc) / scale for member, (loc, scale) in parts])

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return COMBINATIONS[self.combination](standardised(features))

        return Fitted(rewards, tempered(rewards, task), deviation=lambda features: standardised(features).std(0))
