"""The mode of a log-concave p(r | e) by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped

# A Newton step of this size (relative to 1 + |r|) leaves an error of about its square, below float32's rounding.
SMALL_STEP = 1e-4
MAX_STEPS = 60


class Slope(NamedTuple):
    """First and second derivative of f in the standardised reward, one per example."""

    first: Float[Tensor, " batch"]
    second: Float[Tensor, " batch"]


class LogConcave(Protocol):
    """A score whose f'' is negative everywhere."""

    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        """Derivatives of f as a function of one standardised reward per example."""
        ...

    def bracket(self, clamped: Clamped) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Rewards between which the mode lies."""
        ...


@torch.no_grad()
def newton_mode(score: LogConcave, clamped: Clamped, small_step: float = SMALL_STEP) -> Float[Tensor, " batch"]:
    """The root of f', safeguarded: every sign of f' narrows the bracket, and a step that would leave it is halved back.

    Starts at mu, so a score whose hidden units do nothing is done at once. When most examples have settled, the others
    go on alone.

    Args:
        score: whose mode is sought.
        clamped: examples.
        small_step: size of the last Newton step, relative to 1 + |r|.
    """
    low, high = score.bracket(clamped)
    mode = clamped.mean.clamp(low, high)
    rows, reward, slope = torch.arange(len(mode), device=mode.device), mode.clone(), score.slope(clamped)
    for _ in range(MAX_STEPS):
        reward, low, high, settled = _step(slope(reward), reward, low, high, small_step)
        if settled.all():
            break
        if settled.count_nonzero() > len(rows) // 2:
            mode[rows] = reward
            keep = ~settled
            rows, reward, low, high = rows[keep], reward[keep], low[keep], high[keep]
            slope = score.slope(clamped.rows(rows))
    mode[rows] = reward
    return mode


def _step(
    slope: Slope, reward: Tensor, low: Tensor, high: Tensor, small_step: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rising = slope.first > 0
    low, high = torch.where(rising, reward, low), torch.where(rising, high, reward)
    proposal = reward - slope.first / slope.second
    # Rounding of f' near its root may put the bracket on the wrong side of it by less than this.
    slack = SMALL_STEP * (1 + reward.abs())
    outside = (proposal < low - slack) | (proposal > high + slack)
    proposal = torch.where(outside, (low + high) / 2, proposal)
    return proposal, low, high, (proposal - reward).abs() <= small_step * (1 + reward.abs())
