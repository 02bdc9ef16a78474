"""Ensembles of reward models or refinements, combined with care: baselines against over-optimisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError
from qbrm.fitting.fit import combined
from qbrm_lab.methods.base import Fitted, Rewards, Task, base_reward
from qbrm_lab.methods.energy import EnergyMethod
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
        return combination_of(members, self.combination, task)


@dataclass(frozen=True)
class RefinedEnsemble:
    """Several refinements that differ in their seed, their rewards combined: what Coste et al. do with reward models.

    None learns from validation pairs, on which units and temperature are set: a committee, which shares them out, would
    make rewards look surer than they are. `combination` is a name in `COMBINATIONS`; `member` trains one of `members`.
    """

    name: str
    member: EnergyMethod
    members: int
    combination: str

    def described(self) -> dict[str, Any]:
        """All settings that had an effect, by name."""
        return {**self.member.described(), "members": self.members, "combination": self.combination}

    def fit(self, task: Task) -> Fitted:
        """Train every member; one temperature is set on the validation pairs."""
        folds = [task.fold.of_member(index) for index in range(self.members)]
        fitted = [self.member.fit(task.of(fold)) for fold in folds]
        whole = combination_of([member.rewards for member in fitted], self.combination, task)
        trainings = [member.training for member in fitted if member.training is not None]
        facts = tuple(replace(fact, method=self.name) for member in fitted for fact in member.facts)
        return whole._replace(training=combined(trainings), facts=facts)


def combination_of(members: Sequence[Rewards], combination: str, task: Task) -> Fitted:
    """The rewards of several as one, each in deviations from its mean over the validation pairs' responses."""
    known = task.features.rows(task.validation.rows())
    units = [(float(reward.mean()), float(reward.std())) for reward in (member(known) for member in members)]

    def standardised(features: Features) -> Float[Tensor, "members responses"]:
        parts = zip(members, units, strict=True)
        return torch.stack([(member(features) - loc) / scale for member, (loc, scale) in parts])

    def rewards(features: Features) -> Float[Tensor, " responses"]:
        return COMBINATIONS[combination](standardised(features))

    return Fitted(rewards, tempered(rewards, task), deviation=lambda features: standardised(features).std(0))
