"""What every score head offers, and how its layer is found by the names in use."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

# Transformers calls the score layer `score` (decoders), `classifier` (encoders) or `classification_head`; reward models
# with code of their own use the other names.
LAYER_NAMES = ("score", "classifier", "classification_head", "v_head", "value_head", "reward_head", "regression_head")


class Head(Protocol):
    """How one kind of reward model ends: a small adapter.

    Attributes:
        name: as users ask for it.
        expected: what the model has to have, for messages.
    """

    @property
    def name(self) -> str:
        """As users ask for it."""
        ...

    @property
    def expected(self) -> str:
        """What the model has to have, for messages."""
        ...

    def layer(self, model: nn.Module, *, asked: bool) -> nn.Linear | None:
        """The layer whose input is the embedding; None if the model does not end this way.

        Args:
            model: a sequence classifier.
            asked: whether the user named this head, so that no sign in the configuration is needed.
        """
        ...

    def reward(self, output: Any) -> Float[Tensor, " batch"]:
        """The scalar reward of each text, from what the model's forward pass returned."""
        ...


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of whatever is named as score layers are, such as `score` or `classifier.out_proj`."""
    for name in LAYER_NAMES:
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
            if layers:
                return layers[-1]
    return None
