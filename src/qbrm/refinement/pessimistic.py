"""Refinement that trusts a reward less, the less certain it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.density import density


@dataclass(frozen=True)
class Pessimistic:
    """-beta log E exp(-r / beta) under p(r | e), by quadrature; see :func:`qbrm.energies.density.pessimistic`.

    Attributes:
        beta: in the reward model's units. Rewards of Bradley-Terry are log-odds, so one is a factor e.
    """

    beta: float = 1.0

    def __call__(self, score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
        """Refined standardised rewards, at most the mean."""
        return density(score, clamped).pessimistic(self.beta / float(score.reward_scale))
