"""Simulated bifurcation: a classical optimizer, whose runs are cut short so that they leave states of some spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.errors import InputError
from qbrm.interop.ising import Ising
from qbrm.samplers.device import DeviceSampler


class BifurcationSampler(DeviceSampler):
    """Draws with ballistic simulated bifurcation (Goto et al., 2021, Sci. Adv. 7, eabe7953).

    Oscillators, one for each spin, are driven past the point at which each must fall on one of two sides; the couplings
    decide which. The package simulated-bifurcation runs an agent for each state. It divides every problem by the size
    of its couplings, so that scaling a problem changes nothing: how cold the states are follows from the number of
    steps and from the problem, and `effective_beta` and `residual` say what came out. A whole run finds one state of
    low energy; it is no sampler.

    Args:
        steps: of every agent; the package's own default for optimization is 10,000.
        attempts: how often a call is tried that ends in a time-out or a lost connection.
        pause: seconds before the second attempt; each later pause is twice as long.

    Raises:
        InputError: if `steps` or `attempts` is less than 1, `pause` is negative, or the package is missing.
    """

    def __init__(self, steps: int = 50, attempts: int = 1, pause: float = 0.0) -> None:
        if steps < 1:
            raise InputError(f"bifurcation: steps is {steps}; expected at least 1.")
        super().__init__("bifurcation", None, attempts, pause)
        try:
            from simulated_bifurcation.core import Ising as Problem
        except ImportError as error:
            raise InputError(
                "sampler bifurcation: the package simulated-bifurcation is missing; pip install 'qbrm[bifurcation]'."
            ) from error
        self._problem, self._steps = Problem, steps

    @property
    @override
    def _device_name(self) -> str:
        return "simulated bifurcation"

    def __repr__(self) -> str:
        return f"BifurcationSampler(steps={self._steps})"

    @override
    def _draw(
        self, problems: Sequence[Ising], scale: float, samples: int, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "samples spins"]]:
        seeds = torch.randint(2**31 - 1, (len(problems),), generator=generator, device=generator.device).tolist()
        for problem, seed in zip(problems, seeds, strict=True):
            yield self._states(problem, samples, seed)

    def _states(self, problem: Ising, samples: int, seed: int) -> Float[Tensor, "samples spins"]:
        fields, couplings = (part.detach().float().cpu() for part in problem)
        # The package draws its starting points from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states: Tensor = self._problem(couplings, -fields).minimize(
                agents=samples, max_steps=self._steps, early_stopping=False, verbose=False
            )
        return states.T
