"""The likelihood of the preferences themselves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import EnergyScore
from qbrm.energies.density import density, probability_greater
from qbrm.features.pairs import Batch

# Rounding of a sum of float32 products; also bounds what one mislabelled pair can cost, at 16 nats.
SMALLEST_PROBABILITY = 1e-7


class PreferenceLikelihood:
    r"""Negative log-probability that the chosen response's reward is the greater one.

    .. math:: L = -\log P(r_+ > r_-), \qquad r_\pm \sim p(\cdot \mid e_\pm)\ \text{independent}

    A pair whose base rewards contradict its label is evidence of what to correct, where conflict-aware filtering
    drops it. For a Gaussian p(r | e) this is Thurstone's (1927) model of comparative judgement.
    """

    def __call__(self, model: EnergyScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        model.reseed(generator)
        return -log_preference(model, batch).mean()


def log_preference(score: EnergyScore, batch: Batch) -> Float[Tensor, " pairs"]:
    """Log P(r_chosen > r_rejected) for every pair."""
    clamped, pairs = score.clamp(*batch.examples())._replace(row=batch.row), len(batch.chosen)
    sides = slice(pairs), slice(pairs, None)
    if score.draws:
        # Each side starts from the same seed: common random numbers, whose errors cancel in the difference.
        chosen, rejected = (density(score, clamped.rows(side)) for side in sides)
    else:
        both = density(score, clamped)
        chosen, rejected = (both.rows(side) for side in sides)
    return probability_greater(chosen, rejected).clamp_min(SMALLEST_PROBABILITY).log()
