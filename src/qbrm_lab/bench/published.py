"""The published arithmetic, transcribed as it stands: nothing split, nothing reused. Only a reference to time against.

Lochab & Zhang (2025), arXiv 2504.13134, and its code: every noise sample and every ascent step runs the whole network
on the embedding joined with the reward, and each ascent step evaluates f twice.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qbrm.energies import EBRM
from qbrm.fitting.objectives import NCEPlus
from qbrm.refinement import Ascent


def whole_network(
    score: EBRM, embedding: Float[Tensor, "rows dim"], reward: Float[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """f(e, r) of one row per (embedding, standardised reward), through the joined first layer."""
    lifted = reward[:, None]
    for index, layer in enumerate(score.reward_layers):
        lifted = torch.tanh(layer(lifted))
        if index < len(score.reward_layers) - 1:
            lifted = functional.dropout(lifted, training=score.training)
    hidden = torch.tanh(functional.linear(torch.cat([embedding, lifted], -1), score.joint.weight, score.joint.bias))
    hidden = torch.tanh(score.hidden(functional.dropout(hidden, training=score.training)))
    out: Tensor = score.output(functional.dropout(hidden, training=score.training))
    return out[:, 0]


def published_ascent(
    score: EBRM, embedding: Float[Tensor, "rows dim"], start: Float[Tensor, " rows"], settings: Ascent
) -> Float[Tensor, " rows"]:
    """Gradient ascent from `start`, value and gradient computed again in every step."""
    reward = start.clone()
    step_size = torch.full_like(reward, settings.step_size)
    active = torch.ones_like(reward, dtype=torch.bool)
    for _ in range(settings.steps):
        rows = active.nonzero()[:, 0]
        if not len(rows):
            break
        variable = reward[rows].detach().requires_grad_()
        value = whole_network(score, embedding[rows], variable)
        (slope,) = torch.autograd.grad(value.sum(), variable)
        with torch.no_grad():
            proposal = variable + step_size[rows] * slope
            better = whole_network(score, embedding[rows], proposal) > value
            reward[rows] = torch.where(better, proposal, variable)
            step_size[rows] = torch.where(better, step_size[rows], step_size[rows] * settings.shrink)
        active &= step_size >= settings.smallest_step
    return reward


def published_nce(
    score: EBRM,
    embedding: Float[Tensor, "rows dim"],
    reward: Float[Tensor, " rows"],
    settings: NCEPlus,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """NCE+ with one sigma, the embedding repeated for every noise sample."""
    sigma, samples = settings.sigmas[0], settings.noise_samples
    positive = reward + settings.beta * sigma * torch.randn(len(reward), generator=generator)
    negative = reward + sigma * torch.randn(samples, len(reward), generator=generator)
    positive_value = whole_network(score, embedding, positive)
    repeated = embedding[None].expand(samples, -1, -1).reshape(-1, embedding.shape[1])
    negative_value = whole_network(score, repeated, negative.reshape(-1)).view(samples, -1)
    value = torch.cat([positive_value[None], negative_value])
    standard = (torch.cat([positive[None], negative]) - reward) / sigma
    ratio = value + standard.square() / 2 + math.log(sigma) + math.log(2 * math.pi) / 2
    return (torch.logsumexp(ratio, 0) - ratio[0]).mean() + settings.penalty * value.square().mean()
