"""Score heads, by name: where the embedding is read, and how the scalar reward comes out."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from qbrm.errors import InputError

# Transformers calls the score layer `score` (decoders), `classifier` (encoders) or `classification_head`; reward models
# with code of their own use the other names.
LAYER_NAMES = ("score", "classifier", "classification_head", "v_head", "value_head", "reward_head", "regression_head")


class Head(Protocol):
    """How one kind of reward model ends: a small adapter."""

    @property
    def name(self) -> str:
        """As users ask for it."""

    @property
    def expected(self) -> str:
        """What the model has to have, for messages."""

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The layer whose input is the embedding, or None; a head that is asked for needs no sign in the model."""

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The scalar reward of each text, from what the model's forward pass returned."""


class LinearHead:
    r"""The reward is the model's only logit.

    .. math:: r_0 = w^\top e\;(+\,b)
    """

    name = "linear"
    expected = f"one output of a linear layer in {', '.join(LAYER_NAMES)}"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The linear layer, if it has one output."""
        layer = _last_linear(model)
        return layer if layer is not None and layer.out_features == 1 else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The logit."""
        reward: Tensor = output.logits.reshape(-1)
        return reward


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
        layer = _last_linear(model)
        if layer is None or layer.out_features == 1:
            return None
        stated = getattr(getattr(model, "config", None), "num_quantiles", None)
        return layer if asked or stated == layer.out_features else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The mean over the quantiles."""
        reward: Tensor = output.logits.float().mean(-1)
        return reward


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


# In the order in which they are looked for: a gated model has plain layers too.
HEADS: dict[str, Head] = {head.name: head for head in (GatedHead(), LinearHead(), QuantileHead())}


def find_head(model: nn.Module, asked: str | None, name: str) -> tuple[Head, nn.Linear]:
    """The score head of a model, and its layer whose input is the embedding.

    Args:
        model: a sequence classifier.
        asked: one of `HEADS`; None to find out.
        name: what the user calls the model.

    Raises:
        InputError: if there is no such head, or none at all.
    """
    if asked is not None and asked not in HEADS:
        raise InputError(f"unknown head {asked!r}; expected one of: {', '.join(HEADS)}.")
    for head in [HEADS[asked]] if asked else HEADS.values():
        layer = head.layer(model, asked=asked is not None)
        if layer is not None:
            return head, layer
    hint = "" if asked else "; where several outputs are quantiles of the reward, ask for the head 'quantiles'"
    expected = HEADS[asked or "linear"].expected
    raise InputError(f"{name} ({type(model).__name__}) has no {asked or 'score'} head; expected {expected}{hint}.")


def _last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of whatever is named as score layers are, such as `score` or `classifier.out_proj`."""
    for name in LAYER_NAMES:
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
            if layers:
                return layers[-1]
    return None
