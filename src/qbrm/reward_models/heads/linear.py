"""One linear layer with one output: Skywork and most others, whether the layer is `score`, `classifier` or `v_head`."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from qbrm.reward_models.heads.base import LAYER_NAMES, last_linear


class LinearHead:
    r"""The reward is the model's only logit.

    .. math:: r_0 = w^\top e\;(+\,b)
    """

    name = "linear"
    expected = f"one output of a linear layer in {', '.join(LAYER_NAMES)}"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The linear layer, if it has one output."""
        layer = last_linear(model)
        return layer if layer is not None and layer.out_features == 1 else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The logit."""
        reward: Tensor = output.logits.reshape(-1)
        return reward
