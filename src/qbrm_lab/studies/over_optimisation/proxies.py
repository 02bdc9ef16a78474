"""The rewards that best-of-n is chosen by: compared methods, and a lower confidence bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Fitted, Method, Task
from qbrm_lab.methods.energy import EnergyMethod
from qbrm_lab.methods.readings import LOWER_BOUND, choose_levels, read_rewards
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features
from qbrm_lab.results.facts import BoundChosen


@dataclass(frozen=True)
class LowerConfidenceBound:
    """E[r | e] - z std[r | e] of an energy score: of two equal means, the one with the smaller deviation is better.

    z is the one of the reading's levels with which the bound, tempered, makes the validation preferences likeliest.

    Attributes:
        name: in results.
        method: trains the score.
    """

    name: str
    method: EnergyMethod

    def described(self) -> dict[str, Any]:
        """All settings by name."""
        return {**self.method.described(), "deviations": list(LOWER_BOUND.levels)}

    def fit(self, task: Task) -> Fitted:
        """Train the score, choose z."""
        fitted = self.method.fit(task)
        score = fitted.score
        assert score is not None
        levels = choose_levels(score, task, [LOWER_BOUND])
        fact = BoundChosen(method=self.name, seed=task.seed, z=levels[LOWER_BOUND.name], tried=LOWER_BOUND.levels)

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return read_rewards(score, features, levels)[LOWER_BOUND.name]

        return fitted._replace(rewards=rewards, log_preference=tempered(rewards, task), facts=(*fitted.facts, fact))


def _by_mean(name: str) -> EnergyMethod:
    """The method, with rewards refined by the mean."""
    method = build_method(name)
    assert isinstance(method, EnergyMethod)
    return replace(method, refinement="mean")


PROXIES: dict[str, Method] = {
    method.name: method
    for method in (
        *map(build_method, ("base", "base:mean", "base:worst", "base:uncertainty", "mlp", "mlp:ensemble=5", "ebrm")),
        _by_mean("sqrbm"),
        LowerConfidenceBound("sqrbm:lcb", _by_mean("sqrbm")),
        _by_mean("sqrbm:gate,members=5"),
    )
}
