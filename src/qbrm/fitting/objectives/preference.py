"""The likelihood of the preferences themselves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import Batch
from qbrm.fitting.trainable import TrainableScore


class PreferenceLikelihood:
    r"""Negative log-probability that the chosen response's reward is the greater one.

    .. math:: L = -\log P(r_+ > r_-), \qquad r_\pm \sim p(\cdot \mid e_\pm)\ \text{independent}

    A pair whose base rewards contradict its label is evidence of what to correct, where conflict-aware filtering
    drops it. For a Gaussian p(r | e) this is Thurstone's (1927) model of comparative judgement.
    """

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        model.reseed(generator)
        return -model.log_preference(batch).mean()
