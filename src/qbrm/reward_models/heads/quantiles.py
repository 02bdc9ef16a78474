"""A linear layer whose outputs are quantiles of the reward."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from qbrm.reward_models.heads.base import LAYER_NAMES, last_linear


class QuantileHead:
    r"""The reward is the mean of its quantiles, as in quantile reward models (QRM; Dorka, 2024, arXiv 2409.10164).

    .. math:: r_0 = \frac{1}{Q} \sum_q w_q^\top e

    Found where the configuration states as many `num_quantiles` as the layer has outputs; elsewhere to be asked for, as
    the outputs of a classifier are not told from quantiles.
    """

    name = "quantiles"
    expected = f"several outputs of a linear layer in {', '.join(LAYER_NAMES)}"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The linear layer, if its outputs are quantiles."""
        layer = last_linear(model)
        if layer is None or layer.out_features == 1:
            return None
        stated = getattr(getattr(model, "config", None), "num_quantiles", None)
        return layer if asked or stated == layer.out_features else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The mean over the quantiles."""
        reward: Tensor = output.logits.float().mean(-1)
        return reward
