"""How a model is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn


@dataclass(frozen=True)
class TrainingSettings:
    """Optimiser and schedule.

    Attributes:
        epochs: passes over the pairs.
        batch_pairs: pairs per step (two examples each).
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        patience: epochs without a better validation loss after which training stops.
        first_kept: earliest epoch that may be kept; 0 is the untrained model.
        checkpoint_seconds: time after which the state is kept within an epoch too; not for pairs shuffled as they come.
    """

    checkpoint_seconds: ClassVar[float] = math.inf

    epochs: int = 5
    batch_pairs: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int = 5
    first_kept: int = 0

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameters of a model by learning rate, as optimisers take them."""
        return [{"params": list(model.parameters()), "lr": self.learning_rate}]

    def rate(self, progress: float) -> float:
        """Share of the learning rate that a step takes, after `progress` (0 to 1) of all that all epochs train on."""
        return 1.0


@dataclass(frozen=True)
class FitSettings:
    """How an energy score is fitted.

    Attributes:
        objective: one of `qbrm.fitting.objectives.OBJECTIVES`.
        filter_conflicts: whether training pairs that the base rewards contradict are dropped.
        gate: whether the correction fades where embeddings are unfamiliar.
        members: scores whose mean is the result, a :func:`~qbrm.fitting.committee.committee`.
        noise_samples: of the objective ``nce``.
        training: optimiser and schedule.
    """

    objective: str = "preference"
    filter_conflicts: bool = False
    gate: bool = False
    members: int = 1
    noise_samples: int = 64
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        if self.members > 1 and self.filter_conflicts:
            raise ValueError(f"{self.members} members of filtered pairs; expected one member, or no filtering")
