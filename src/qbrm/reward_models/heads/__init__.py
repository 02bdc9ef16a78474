"""Score heads, by name: where the embedding is read, and how the scalar reward comes out."""

from __future__ import annotations

from torch import nn

from qbrm.errors import InputError
from qbrm.reward_models.heads.base import Head
from qbrm.reward_models.heads.gated import GatedHead
from qbrm.reward_models.heads.linear import LinearHead
from qbrm.reward_models.heads.quantiles import QuantileHead

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
    raise InputError(f"{name} ({type(model).__name__}) has no {asked or 'score'} head; {_expected(asked)}")


def _expected(asked: str | None) -> str:
    if asked is not None:
        return f"expected {HEADS[asked].expected}."
    return (
        f"expected {HEADS['linear'].expected}; where several outputs are quantiles of the reward, ask for the head "
        "'quantiles'."
    )


__all__ = ["HEADS", "Head", "find_head"]
