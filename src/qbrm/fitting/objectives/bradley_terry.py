"""The loss that reward models are usually trained with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from qbrm.data.pairs import Batch


class BradleyTerry:
    r"""Negative log-likelihood of the preferences under Bradley and Terry's (1952) model.

    .. math:: L = -\log \sigma(r_+ - r_-)

    For models that give one reward per response: ``model(embedding, base_reward) -> reward``.
    """

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        chosen = model(batch.chosen, batch.chosen_reward)
        rejected = model(batch.rejected, batch.rejected_reward)
        return functional.softplus(rejected - chosen).mean()
