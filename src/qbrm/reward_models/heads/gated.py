"""Several objectives, weighted by a gate on the prompt: ArmoRM, and QRM, whose objectives have quantiles."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class GatedHead:
    r"""The reward is the gated sum over objectives that the model computes itself.

    .. math:: r_0 = \sum_k g_k(\text{prompt})\,(T^\top V e)_k

    e is the input of the layer `regression_layer`, V its weight (in QRM the mean over each objective's quantiles).
    The gate g reads the prompt's hidden state, so the reward is no function of e alone. ArmoRM: Wang et al. (2024),
    arXiv 2406.12845; QRM: Dorka (2024), arXiv 2409.10164.
    """

    name = "gated"
    expected = "the layers regression_layer and gating, and an output score"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The layer of the objectives, if there is a gate."""
        layer = getattr(model, "regression_layer", None)
        gated = isinstance(getattr(model, "gating", None), nn.Module)
        return layer if gated and isinstance(layer, nn.Linear) else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The model's own score."""
        reward: Tensor = output.score.reshape(-1)
        return reward
