"""The published refinement: gradient ascent from a partly random start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.base import Clamped, EnergyScore


@dataclass(frozen=True)
class Ascent:
    """Hybrid-initialised gradient ascent on f, in standardised units; constants of the published code.

    Lochab & Zhang (2025), arXiv 2504.13134.

    Attributes:
        steps: most steps taken.
        step_size: first step along df/dr.
        shrink: factor on the step size after a step that did not raise f (published scripts also use 0.2).
        keep_within: base rewards up to this size are where the ascent starts.
        restart_within: the others start at a uniformly random reward up to this size.
        smallest_step: an example whose step size is below this has ended.
    """

    steps: int = 50
    step_size: float = 0.5
    shrink: float = 0.1
    keep_within: float = 2.0
    restart_within: float = 4.0
    smallest_step: float = 1e-6

    def __call__(self, score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
        """Refined standardised rewards; f is never lower there than where the ascent started."""
        reward = self.start(clamped.base_reward, generator)
        # Each step evaluates f once, where the published code does twice.
        value, slope = _value_and_slope(score, clamped, reward)
        step_size = torch.full_like(reward, self.step_size)
        active = torch.arange(len(reward), device=reward.device)
        for _ in range(self.steps):
            proposal = reward[active] + step_size[active] * slope[active]
            new_value, new_slope = _value_and_slope(score, clamped.rows(active), proposal)
            better = new_value > value[active]
            accepted = active[better]
            reward[accepted], value[accepted], slope[accepted] = proposal[better], new_value[better], new_slope[better]
            step_size[active[~better]] *= self.shrink
            active = active[step_size[active] >= self.smallest_step]
            if not len(active):
                break
        return reward

    def start(self, base_reward: Float[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, " batch"]:
        """Where the ascent starts: at r0 if it is small enough, else anywhere in the range."""
        random = torch.empty_like(base_reward, device=generator.device)
        random = random.uniform_(-self.restart_within, self.restart_within, generator=generator).to(base_reward.device)
        return torch.where(base_reward.abs() <= self.keep_within, base_reward, random)


def _value_and_slope(
    score: EnergyScore, clamped: Clamped, reward: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    with torch.enable_grad():
        variable = reward.detach().requires_grad_()
        value = score.at(clamped, variable[:, None])[:, 0]
        (slope,) = torch.autograd.grad(value.sum(), variable)
    return value.detach(), slope
