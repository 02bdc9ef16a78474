"""The mode of a log-concave p(r | e) by Newton's method."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped

TOLERANCE = 1e-6
MAX_STEPS = 60


class Slope(NamedTuple):
    """First and second derivative of f in the standardised reward, one per example."""

    first: Float[Tensor, " batch"]
    second: Float[Tensor, " batch"]


class LogConcave(Protocol):
    """A score whose f'' is negative everywhere."""

    def slope(self, clamped: Clamped, reward: Float[Tensor, " batch"]) -> Slope:
        """Derivatives of f at one standardised reward per example."""
        ...

    def bracket(self, clamped: Clamped) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Rewards between which the mode lies."""
        ...


@torch.no_grad()
def newton_mode(score: LogConcave, clamped: Clamped) -> Float[Tensor, " batch"]:
    """The root of f', safeguarded: every sign of f' narrows the bracket, and a step that leaves it is halved back.

    Starts at mu, so a score whose hidden units do nothing is done at once. Ends when no example moves by more than
    TOLERANCE (relative to 1 + |r|).
    """
    low, high = score.bracket(clamped)
    reward = clamped.mean.clamp(low, high)
    for _ in range(MAX_STEPS):
        slope = score.slope(clamped, reward)
        rising = slope.first > 0
        low, high = torch.where(rising, reward, low), torch.where(rising, high, reward)
        proposal = reward - slope.first / slope.second
        slack = TOLERANCE * (1 + reward.abs())
        outside = (proposal < low - slack) | (proposal > high + slack)
        proposal = torch.where(outside, (low + high) / 2, proposal)
        settled = (proposal - reward).abs() <= slack
        reward = proposal
        if settled.all():
            break
    return reward
