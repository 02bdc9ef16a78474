"""More responses to a prompt than a preference set has: a policy to draw best-of-n from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Policy(NamedTuple):
    r"""Draws vectors of responses to a prompt, fitted to the real ones.

    .. math:: x = \bar x_p + d_1 \cos\varphi + d_2 \sin\varphi

    x_p is the mean vector of the prompt's real responses. d_1 and d_2 are deviations of two real responses, to any
    prompts, from the mean of their own prompt's; phi is uniform. Best-of-10,000 needs more responses than people wrote
    to a prompt. Responses to other prompts are real vectors, but off the subject. A normal distribution lacks the real
    tails, where over-optimisation happens. Mixing two deviations keeps mean and covariance, some of the tails, and the
    subject. It assumes that responses scatter around all prompts' means alike. No text with such a vector need exist.

    Attributes:
        centres: mean vector of the real responses of each prompt.
        deviations: all real responses less their prompt's mean, scaled to the covariance around the true mean.
    """

    centres: Float[Tensor, "prompts dim"]
    deviations: Float[Tensor, "responses dim"]

    def draw(self, prompt: int, size: int, generator: torch.Generator) -> Float[Tensor, "size dim"]:
        """Vectors of `size` responses to the prompt of that number."""
        first, second = torch.randint(len(self.deviations), (2, size), generator=generator)
        angle = 2 * math.pi * torch.rand(size, 1, generator=generator)
        return self.centres[prompt] + self.deviations[first] * angle.cos() + self.deviations[second] * angle.sin()


def fit_policy(responses: Sequence[Float[Tensor, "responses dim"]]) -> Policy:
    """The policy of real responses, given their vectors prompt by prompt; every prompt has two or more."""
    centres = torch.stack([vectors.mean(0) for vectors in responses])
    deviations = [
        (vectors - centre) * math.sqrt(len(vectors) / (len(vectors) - 1))
        for vectors, centre in zip(responses, centres, strict=True)
    ]
    return Policy(centres, torch.cat(deviations))
