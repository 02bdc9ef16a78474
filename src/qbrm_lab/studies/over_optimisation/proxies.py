"""The rewards that best-of-n is chosen by: compared methods, and a lower confidence bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.density import density
from qbrm.refinement import refine
from qbrm_lab.methods import METHODS, EnergyMethod, Fitted, Method, Task
from qbrm_lab.methods.base import Rewards
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features

DEVIATIONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class LowerConfidenceBound:
    """E[r | e] - z std[r | e] of an energy score: of two promising responses, the one that more is known of.

    z is that of `DEVIATIONS` with which the bound, tempered, makes the validation preferences likeliest.

    Attributes:
        name: in results.
        method: trains the score.
    """

    name: str
    method: EnergyMethod

    def fit(self, task: Task) -> Fitted:
        """Train the score, choose z."""
        fitted = self.method.fit(task)
        assert fitted.score is not None
        bounds = {z: _bound(fitted.score, z) for z in DEVIATIONS}
        z = min(bounds, key=lambda z: _log_loss(bounds[z], task))
        note = f"{self.name}, seed {task.seed}: validation chose z = {z:g} of {', '.join(f'{z:g}' for z in DEVIATIONS)}"
        return fitted._replace(rewards=bounds[z], log_preference=tempered(bounds[z], task), notes=(*fitted.notes, note))


def _bound(score: EnergyScore, z: float) -> Rewards:
    def refinement(score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
        found = density(score, clamped)
        return found.mean - z * found.std

    def rewards(features: Features) -> Float[Tensor, " responses"]:
        return refine(score, features.embedding, features.reward, refinement)

    return rewards


def _log_loss(rewards: Rewards, task: Task) -> float:
    rows = task.validation.rows()
    known = task.features.rows(rows)
    chosen, rejected = (torch.searchsorted(rows, part) for part in (task.validation.chosen, task.validation.rejected))
    return -float(tempered(rewards, task)(known, rewards(known), chosen, rejected).mean())


def _sqrbm(name: str) -> EnergyMethod:
    method = METHODS[name]
    assert isinstance(method, EnergyMethod)
    return replace(method, refinement="mean")


PROXIES: dict[str, Method] = {
    **{name: METHODS[name] for name in ("base", "base-mean", "base-worst", "base-uncertainty", "mlp", "mlp-ensemble")},
    "ebrm": METHODS["ebrm"],
    "sqrbm": _sqrbm("sqrbm"),
    "sqrbm-lcb": LowerConfidenceBound("sqrbm-lcb", _sqrbm("sqrbm")),
    "sqrbm-gate-ensemble": _sqrbm("sqrbm-gate-ensemble"),
}
