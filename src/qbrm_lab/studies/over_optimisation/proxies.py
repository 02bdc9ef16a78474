"""The rewards that best-of-n is chosen by: compared methods, and a lower confidence bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.density import density
from qbrm.refinement import refine
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Fitted, Method, Rewards, Task
from qbrm_lab.methods.energy import EnergyMethod
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features
from qbrm_lab.results.facts import BoundChosen

DEVIATIONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class LowerConfidenceBound:
    """E[r | e] - z std[r | e] of an energy score: of two equal means, the one with the smaller deviation is better.

    z is the one of `DEVIATIONS` with which the bound, tempered, makes the validation preferences likeliest.

    Attributes:
        name: in results.
        method: trains the score.
    """

    name: str
    method: EnergyMethod

    def described(self) -> dict[str, Any]:
        """All settings by name."""
        return {**self.method.described(), "deviations": list(DEVIATIONS)}

    def fit(self, task: Task) -> Fitted:
        """Train the score, choose z."""
        fitted = self.method.fit(task)
        assert fitted.score is not None
        bounds = {z: _bound(fitted.score, z) for z in DEVIATIONS}
        z = min(bounds, key=lambda z: _log_loss(bounds[z], task))
        fact = BoundChosen(method=self.name, seed=task.seed, z=z, tried=DEVIATIONS)
        return fitted._replace(rewards=bounds[z], log_preference=tempered(bounds[z], task), facts=(*fitted.facts, fact))


def _bound(score: EnergyScore, z: float) -> Rewards:
    def refinement(score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
        p = density(score, clamped)
        return p.mean - z * p.std

    def rewards(features: Features) -> Float[Tensor, " responses"]:
        return refine(score, features.embedding, features.reward, refinement)

    return rewards


def _log_loss(rewards: Rewards, task: Task) -> float:
    rows = task.validation.rows()
    known = task.features.rows(rows)
    chosen, rejected = (torch.searchsorted(rows, part) for part in (task.validation.chosen, task.validation.rejected))
    return -float(tempered(rewards, task)(known, rewards(known), chosen, rejected).mean())


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
