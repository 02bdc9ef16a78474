"""Score heads, by name: where the embedding is read, and how the scalar reward comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from qbrm.errors import InputError

# Transformers calls the score layer `score` (decoders), `classifier` (encoders) or `classification_head`; reward models
# with code of their own use the other names.
LAYER_NAMES = ("score", "classifier", "classification_head", "v_head", "value_head", "reward_head", "regression_head")
GATED_LAYER = "regression_layer"
# What models with code of their own call the reward they return, where it is not `logits`.
RETURNED = ("logits", "score", "scores", "reward", "rewards", "end_scores", "value", "values")
LABELS_SHOWN = 20


class Head(Protocol):
    """How one kind of reward model ends: a small adapter."""

    @property
    def name(self) -> str:
        """As users ask for it."""

    @property
    def output(self) -> int | None:
        """Which of several outputs is the reward; None if there is one, or all of them make it."""

    @property
    def expected(self) -> str:
        """What the model has to have, for messages."""

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The layer whose input is the embedding, or None; a head that is asked for needs no sign in the model."""

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The scalar reward of each text, from what the model's forward pass returned."""


@dataclass(frozen=True)
class LinearHead:
    r"""The reward is the model's only logit, or the one of several that is asked for.

    .. math:: r_0 = w^\top e\;(+\,b)

    Args:
        output: index of the logit; None if there is one.
    """

    output: int | None = None
    name = "linear"
    expected = f"one output of a linear layer in {', '.join(LAYER_NAMES)}"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The linear layer, if it has one output or one of them was chosen."""
        layer = score_layer(model)
        return layer if layer is not None and (layer.out_features == 1 or self.output is not None) else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The logit."""
        logits = returned(output)
        return logits.reshape(-1) if self.output is None else logits[:, self.output]


class QuantileHead:
    r"""The reward is the mean of its quantiles, as in quantile reward models (QRM; Dorka, 2024, arXiv 2409.10164).

    .. math:: r_0 = \frac{1}{Q} \sum_q w_q^\top e

    Found where the configuration states as many `num_quantiles` as the layer has outputs; elsewhere to be asked for, as
    the outputs of a classifier are not told from quantiles.
    """

    name, output = "quantiles", None
    expected = f"several outputs of a linear layer in {', '.join(LAYER_NAMES)}"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The linear layer, if its outputs are quantiles."""
        layer = score_layer(model)
        if layer is None or layer.out_features == 1:
            return None
        stated = getattr(getattr(model, "config", None), "num_quantiles", None)
        return layer if asked or stated == layer.out_features else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The mean over the quantiles."""
        return returned(output).float().mean(-1)


class GatedHead:
    r"""The reward is the gated sum over objectives that the model computes itself.

    .. math:: r_0 = \sum_k g_k(\text{prompt})\,(T^\top V e)_k

    e is the input of the layer `regression_layer`, V its weight (in QRM the mean over each objective's quantiles).
    The gate g reads the prompt's hidden state, so the reward is no function of e alone. ArmoRM: Wang et al. (2024),
    arXiv 2406.12845; QRM: Dorka (2024), arXiv 2409.10164.
    """

    name, output = "gated", None
    expected = "the layers regression_layer and gating, and an output score"

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The layer of the objectives, if there is a gate."""
        layer = getattr(model, GATED_LAYER, None)
        gated = isinstance(getattr(model, "gating", None), nn.Module)
        return layer if gated and isinstance(layer, nn.Linear) else None

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The model's own score."""
        reward: Tensor = output.score.reshape(-1)
        return reward


# In the order in which they are looked for: a gated model has plain layers too.
HEADS: dict[str, Head] = {head.name: head for head in (GatedHead(), LinearHead(), QuantileHead())}


def find_head(model: nn.Module, asked: str | None, name: str, output: int | None = None) -> tuple[Head, nn.Linear]:
    """The score head of a model, and its layer whose input is the embedding.

    Args:
        model: a sequence classifier.
        asked: one of `HEADS`; None to find out.
        name: what the user calls the model.
        output: index of the output that is the reward, where there are several.

    Raises:
        InputError: if there is no such head or output, or none at all.
    """
    if asked is not None and asked not in HEADS:
        raise InputError(f"unknown head {asked!r}; expected one of: {', '.join(HEADS)}.")
    if output is not None:
        return _chosen_output(model, asked, name, output)
    for head in [HEADS[asked]] if asked else HEADS.values():
        layer = head.layer(model, asked=asked is not None)
        if layer is not None:
            return head, layer
    several = score_layer(model)
    if several is not None and asked in (None, "linear"):
        raise InputError(
            f"{name} ({type(model).__name__}) has no score head of one output but {several.out_features} outputs, "
            f"{_labels(model, several)}; expected --output INDEX (output=INDEX) for the one that is the reward, or the "
            "head 'quantiles' (--head) where they are its quantiles."
        )
    expected = HEADS[asked or "linear"].expected
    raise InputError(f"{name} ({type(model).__name__}) has no {asked or 'score'} head; expected {expected}.")


def _chosen_output(model: nn.Module, asked: str | None, name: str, output: int) -> tuple[Head, nn.Linear]:
    if asked not in (None, "linear"):
        raise InputError(f"output {output} was asked for with the head {asked!r}; expected the head 'linear' with it.")
    layer = score_layer(model)
    if layer is None:
        raise InputError(f"{name} ({type(model).__name__}) has no score head; expected {LinearHead.expected}.")
    if not 0 <= output < layer.out_features:
        raise InputError(f"output {output} of {name}; expected one of: {_labels(model, layer)}.")
    return LinearHead(output if layer.out_features > 1 else None), layer


def _labels(model: nn.Module, layer: nn.Linear) -> str:
    """The outputs with the names that the configuration has for them."""
    names: Mapping[int, str] = getattr(getattr(model, "config", None), "id2label", None) or {}
    shown = [f"{index} {names.get(index, '')}".strip() for index in range(min(layer.out_features, LABELS_SHOWN))]
    more = layer.out_features - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def returned(output: Any) -> Tensor:
    """The scores that a model's forward pass returned, whatever its class calls them.

    Raises:
        InputError: if there are none.
    """
    if isinstance(output, Tensor):
        return output
    found = [getattr(output, name, None) for name in RETURNED]
    found += output if isinstance(output, tuple) else []
    scores = next((value for value in found if isinstance(value, Tensor)), None)
    if scores is None:
        raise InputError(
            f"a forward pass returned {type(output).__name__} without scores; expected one of: {', '.join(RETURNED)}."
        )
    return scores


def score_layer(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of whatever is named as score layers are, such as `score` or `classifier.out_proj`.

    Where nothing is, the only linear layer of the model that has one output.
    """
    for name in LAYER_NAMES:
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
            if layers:
                return layers[-1]
    single = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features == 1]
    return single[0] if len(single) == 1 else None
