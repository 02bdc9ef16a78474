"""Units in which features have mean zero and deviation one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_DEVIATION = 1e-6


def location_and_scale(features: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
    """Mean and standard deviation of each dimension; one for a dimension that does not vary."""
    scale = features.std(0)
    return features.mean(0), torch.where(scale > SMALLEST_DEVIATION, scale, torch.ones_like(scale))
