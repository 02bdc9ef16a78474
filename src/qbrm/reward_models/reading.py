"""What an embedding reads of a model: the score layer's input, and means over the response of chosen layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.errors import InputError
from qbrm.reward_models.positions import NO_TEXT

LAST, MEAN, LAYERS = EMBEDDINGS = ("last", "mean", "layers")
FRACTION = 2 / 3  # of the depth, where the layer is that `layers` reads unless told otherwise
EXPECTED = "last, mean, layers, or layers with fractions of the depth, as in layers:0.5,0.67"


@dataclass(frozen=True)
class Reading:
    r"""What is read of a model for an embedding.

    .. math:: e = (h_L[s],\; \bar h_L,\; \bar h_{l_1}, \bar h_{l_2}, \dots), \qquad
              \bar h_l = \frac{1}{|R|} \sum_{t \in R} h_l[t]

    h_l[t] is what layer l of L gives at token t (behind the final norm for l = L), s the position that is scored, R the
    response's tokens. The score layer's input comes first, so that the reward stays a linear function of the first
    coordinates.

    Attributes:
        name: ``last`` (the score layer's input alone), ``mean`` (and the last layer's mean) or ``layers`` (all).
        fractions: of the depth, one per layer of ``layers``, ascending; empty for the others.
    """

    name: str = LAST
    fractions: tuple[float, ...] = ()

    @classmethod
    def named(cls, text: str) -> Reading:
        """Read what a user typed, such as ``layers`` or ``layers:0.5,0.67``.

        Raises:
            InputError: if it is none, or a fraction is not between 0 and 1.
        """
        name, colon, listed = str(text).partition(":")
        if name not in EMBEDDINGS or (colon and name != LAYERS):
            raise InputError(f"unknown embedding {text!r}; expected {EXPECTED}.")
        try:
            fractions = tuple(sorted(float(part) for part in listed.split(","))) if colon else ()
        except ValueError:
            raise InputError(f"embedding {text!r} names no fractions; expected {EXPECTED}.") from None
        if not all(0 < fraction < 1 for fraction in fractions):
            raise InputError(
                f"embedding {text!r}: a fraction of the depth is not between 0 and 1, where the last layer is; "
                f"expected {EXPECTED}."
            )
        return cls(name, fractions if colon else (FRACTION,) if name == LAYERS else ())

    def __str__(self) -> str:
        if self.fractions in ((), (FRACTION,)):
            return self.name
        return f"{self.name}:{','.join(f'{fraction:g}' for fraction in self.fractions)}"

    def layers(self, depth: int) -> tuple[int, ...]:
        """Which layers of a model of this depth are read besides the last, counted from 1.

        Raises:
            InputError: if two fractions are of one layer, or one is of the last, which is read anyway.
        """
        found = tuple(max(1, round(fraction * depth)) for fraction in self.fractions)
        for place, layer in enumerate(found):
            if layer in (*found[:place], depth):
                raise InputError(
                    f"embedding '{self}' reads layer {layer} of {depth} twice"
                    f"{' (the last is always read)' if layer == depth else ''}; expected fractions of different layers."
                )
        return found


class LayerMeans:
    """Means over chosen tokens of what a model's layers give, computed while a pass goes through them.

    Args:
        reading: which layers.
        model: a sequence classifier of one stack of layers.
        name: what the user calls it.

    Attributes:
        dim: numbers in all means together.
        modules: whose output is averaged: the model without its score layer, then layers in order.

    Raises:
        InputError: if the model's layers cannot be told, or it has fewer than `reading` needs.
    """

    def __init__(self, reading: Reading, model: Any, name: str) -> None:
        self._name = name
        self.modules: list[nn.Module] = []
        self.dim = 0
        if reading.name == LAST:
            return
        if (stack := _stack(model)) is None:
            raise InputError(
                f"embedding '{reading}' of {name} ({type(model).__name__}): its layers cannot be told; expected one "
                "stack of as many layers as its configuration says, or the embedding 'last'."
            )
        self.modules = [_body(model), *(stack[layer - 1] for layer in reading.layers(len(stack)))]
        self.dim = len(self.modules) * int(model.config.get_text_config().hidden_size)

    @contextmanager
    def watched(self, weights: Float[Tensor, "batch tokens"]) -> Iterator[list[Float[Tensor, "batch width"]]]:
        """Collect the means within the context, in which one pass runs: the last layer's, then the others' in order.

        Args:
            weights: of each token in its text's means; rows sum to one.
        """
        means: dict[int, Tensor] = {}
        found: list[Tensor] = []
        with ExitStack() as stack:
            for place, module in enumerate(self.modules):

                def keep(module: nn.Module, inputs: Any, output: Any, place: int = place) -> None:
                    means[place] = self._mean(output, weights)

                stack.callback(module.register_forward_hook(keep).remove)
            yield found
        found += [means[place] for place in sorted(means)]
        if len(found) != len(self.modules):
            raise InputError(f"{self._name} runs other layers than it has; expected the embedding 'last'.")

    def _mean(self, output: Any, weights: Tensor) -> Float[Tensor, "batch width"]:
        hidden = output if isinstance(output, Tensor) else output[0]
        if hidden.shape[:-1] != weights.shape:
            raise InputError(
                f"a layer of {self._name} gives {tuple(hidden.shape)} for {tuple(weights.shape)} tokens; expected one "
                "vector for each, or the embedding 'last'."
            )
        return torch.bmm(weights.to(hidden.device)[:, None], hidden.float())[:, 0]


def averages(model: Any) -> bool:
    """Whether the layers of a model can be told, so that means of what they give can be read."""
    return _stack(model) is not None


def _body(model: Any) -> nn.Module:
    """The model without its score layer."""
    body: nn.Module = getattr(model, "base_model", model)
    return body


def _stack(model: Any) -> nn.ModuleList | None:
    """The list of the model's layers, by its length; None if there is not exactly one such list behind one body."""
    if model.config.is_encoder_decoder or _body(model) is model:
        return None
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = {
        f"{name}.": module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and not NO_TEXT.search(name)
    }
    outer = [name for name in lists if not any(name != other and name.startswith(other) for other in lists)]
    return lists[outer[0]] if len(outer) == 1 else None
