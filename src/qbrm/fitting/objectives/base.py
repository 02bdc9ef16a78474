"""What every objective offers."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.data.pairs import Batch

Model = TypeVar("Model", bound=nn.Module, contravariant=True)


class Objective(Protocol[Model]):
    """A loss to be minimised over minibatches of preference pairs."""

    def __call__(self, model: Model, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean loss of the batch; every random number it needs comes from `generator` (dropout's excepted)."""
