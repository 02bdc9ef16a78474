"""Our EBRM with base rewards in other units, and what its restarts do without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.energies import EBRM
from qbrm.fitting import FitSettings, fit_score
from qbrm.fitting.fit import FittedScore
from qbrm.refinement import Ascent, refine
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features

HYBRID, FROM_BASE = "hybrid", "r0"
STARTS: Mapping[str, Ascent] = {HYBRID: Ascent(), FROM_BASE: Ascent(keep_within=math.inf)}


class ScaledEBRM(EBRM):
    """EBRM that sees base rewards with that standard deviation, where EBRM itself always sees 1.

    Noise and ascent have constants in the units that the network sees, so the deviation matters.
    """

    def __init__(self, dim: int, reads: int | None = None, deviation: float = 1.0) -> None:
        super().__init__(dim, reads)
        self.deviation = deviation

    @override
    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "deviation": self.deviation}

    @override
    def standardise(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        super().standardise(embedding, base_reward)
        self.reward_scale /= self.deviation


@dataclass(frozen=True)
class EBRMInUnits:
    """EBRM as this project fits it, at one deviation of the base rewards; refined from the hybrid start."""

    name: str
    deviation: float
    noise_samples: int
    epochs: int

    @property
    def settings(self) -> FitSettings:
        """Those of EBRM, with so much noise and so many epochs."""
        given = EBRM.fit_settings
        return replace(given, noise_samples=self.noise_samples, training=replace(given.training, epochs=self.epochs))

    def score_for(self, task: Task) -> FittedScore[ScaledEBRM]:
        """Fit the score to the task's pairs."""
        dim, reads = task.pairs.dim, task.head_dim
        return fit_score(lambda: ScaledEBRM(dim, reads, self.deviation), task.fold, self.settings)

    def fit(self, task: Task) -> Fitted:
        """Fit the score; one temperature makes probabilities of its rewards."""
        fitted = self.score_for(task)

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return refine(fitted.score, features.embedding, features.reward, STARTS[HYBRID], seed=task.seed)

        return Fitted(rewards, tempered(rewards, task), fitted.training)


@dataclass(frozen=True)
class RestartsAlone:
    """No energy at all: a base reward beyond 2 deviations' units becomes a random one, and that is all.

    What the hybrid start does to a base before any ascent.
    """

    name: str
    deviation: float

    def fit(self, task: Task) -> Fitted:
        """Nothing to train but the units."""
        units = ScaledEBRM(task.pairs.dim, task.head_dim, self.deviation)
        units.standardise(*task.pairs.without_conflicts().responses())
        generator = torch.Generator()

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            start = STARTS[HYBRID].start(units.to_standard(features.reward), generator.manual_seed(task.seed))
            return units.from_standard(start)

        return Fitted(rewards, tempered(rewards, task))
