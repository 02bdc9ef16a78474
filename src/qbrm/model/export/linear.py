"""Corrections that are linear in the embedding, and score layers that have them folded in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn import functional

from qbrm.energies import BoltzmannScore, EnergyScore
from qbrm.reward_models.heads import Head


class Affine(NamedTuple):
    """A function of the embedding: weights and a constant, in the reward model's units."""

    weight: Float64[Tensor, " dim"]
    constant: float


def reward_of(head: Head, layer: nn.Linear) -> Affine:
    """The base reward r0 that a head makes of its score layer's outputs, as one row of weights."""
    rows = layer.weight.detach().double().cpu()
    constants = rows.new_zeros(1, len(rows)) if layer.bias is None else layer.bias.detach().double().cpu()[None]
    weight, constant = (head.reward(SimpleNamespace(logits=logits)).double() for logits in (rows.T, constants))
    return Affine(weight, float(constant))


def refined(score: EnergyScore, reward: Affine) -> Affine | None:
    r"""The refined reward r* as a function of the embedding, if it is linear in it.

    The base reward may be one of the embedding's first coordinates alone; the function is one of all.

    Hidden units that are not coupled to the reward have no effect on it, and r* is mu, which a gate or a trunk makes
    another function of e, unless there is no shift:

    .. math:: r^* = r_0 + g\,(a^\top e + a_0) \quad\text{if}\; u = 0
    """
    if not isinstance(score, BoltzmannScore):
        return None
    coupled, deep, shifted = bool(score.u.any()), bool(score.a.any()), bool(score.a.any() or score.a0.any())
    if score.strength and (coupled or (deep and score.trunk is not None) or (shifted and score.gate is not None)):
        return None
    slope = torch.zeros_like(score.embedding_scale) if score.trunk is not None else score.a
    location, scale, a, a0, unit, origin = (
        value.detach().double().cpu()
        for value in (
            score.embedding_loc,
            score.embedding_scale,
            score.strength * slope,
            score.strength * score.a0,
            score.reward_scale,
            score.reward_loc,
        )
    )
    weight = unit * a / scale
    constant = float(unit * a0 - weight @ location)
    if score.anchored:
        base = functional.pad(reward.weight, (0, len(weight) - len(reward.weight)))
        return Affine(base + weight, reward.constant + constant)
    return Affine(weight, float(origin) + constant)


def score_layer(function: Affine, like: nn.Linear) -> nn.Linear:
    """A layer of one output that computes the function, with a bias if `like` has one, in its dtype."""
    layer = nn.Linear(like.in_features, 1, bias=like.bias is not None, dtype=like.weight.dtype, device="cpu")
    with torch.no_grad():
        layer.weight.copy_(function.weight[None])
        if layer.bias is not None:
            layer.bias.fill_(function.constant)
    return layer
