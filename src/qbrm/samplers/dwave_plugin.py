"""Any sampler of dwave-pytorch-plugin, conditional sampling included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.errors import InputError
from qbrm.interop.dwave_plugin import plugin, to_graph_machine
from qbrm.interop.ising import Ising, check_problem, given_visible
from qbrm.samplers.base import Spins, check_samples
from qbrm.samplers.device import DeviceSampler

if TYPE_CHECKING:
    from dwave.plugins.torch.models import GraphRestrictedBoltzmannMachine
    from dwave.plugins.torch.samplers import TorchSampler


class DWavePluginSampler(DeviceSampler):
    r"""Draws from :math:`p(s) \propto \exp(h^\top s + \tfrac12 s^\top J s)` with a sampler of D-Wave's plugin.

    Each problem of the batch becomes one of the plugin's machines, for which `build` makes a sampler. beta is the
    inverse temperature that it draws at: known, or else estimated and corrected as for every device.

    Args:
        build: makes a sampler of the plugin, given the machine, how many states are wanted, and a seed. It returns so
            many, as chains or reads.
        beta: the inverse temperature at which it draws, such as the last of its schedule; None to estimate it.
        attempts: how often a call is tried that ends in a time-out or a lost connection.
        pause: seconds before the second attempt; each later pause is twice as long.

    Raises:
        InputError: if beta is not positive, `attempts` is less than 1, or `pause` is negative.
    """

    def __init__(
        self,
        build: Callable[[GraphRestrictedBoltzmannMachine, int, int], TorchSampler],
        beta: float | None = None,
        attempts: int = 4,
        pause: float = 5.0,
    ) -> None:
        super().__init__("D-Wave plugin's sampler", beta, attempts, pause)
        self._build, self._name = build, "sampler of dwave-pytorch-plugin"

    @property
    @override
    def _device_name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"DWavePluginSampler({self._name})"

    @override
    def _draw(
        self, problems: Sequence[Ising], scale: float, samples: int, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "samples spins"]]:
        for problem, seed in zip(problems, _seeds(len(problems), generator), strict=True):
            yield self._states(_scaled(problem, scale), samples, seed, None)

    def sample_given(
        self, problem: Ising, visible: Float[Tensor, "batch visible"], samples: int, generator: torch.Generator
    ) -> Spins:
        """Draw the other spins given the first ones, with the plugin's own conditional sampling.

        Args:
            problem: over all spins, the visible ones first.
            visible: their states, a row for each wanted condition.
            samples: how many states of each.
            generator: source of randomness.

        Raises:
            InputError: if the problem is not one, there are no other spins, or the plugin's sampler fails or refuses.
        """
        check_problem(problem.fields[None], problem.couplings)
        known = visible.shape[1]
        if not 0 < known < len(problem.fields):
            raise InputError(f"{known} visible of {len(problem.fields)} spins; expected one or more, and others left.")
        left = given_visible(problem, visible)

        def draw(scale: float) -> Spins:
            seeds = _seeds(len(visible), generator)
            drawn = [
                self._states(_scaled(problem, scale), samples, seed, row)
                for row, seed in zip(visible, seeds, strict=True)
            ]
            states = torch.stack(drawn)[..., known:].to(problem.fields)
            check_samples(states, left.fields, samples, self._device_name)
            return states

        return self._corrected(draw, left.fields, left.couplings, generator)

    def _states(
        self, problem: Ising, samples: int, seed: int, visible: Float[Tensor, " visible"] | None
    ) -> Float[Tensor, "samples spins"]:
        machine = to_graph_machine(Ising(*(part.float() for part in problem)))
        sampler = self._build(machine, samples, seed)
        self._name = type(sampler).__name__

        def call() -> Float[Tensor, "*rows spins"]:
            if visible is None:
                states: Tensor = sampler.sample()
                return states
            row = torch.full((len(problem.fields),), torch.nan)
            row[: len(visible)] = visible
            # Samplers with chains take a row for each; a dimod sampler answers one row with all its reads.
            rows = 1 if isinstance(sampler, plugin("samplers").DimodSampler) else samples
            given: Tensor = sampler.sample(row.expand(rows, -1).clone())
            return given

        drawn = self._call(call)
        return drawn.reshape(-1, len(problem.fields))


def _scaled(problem: Ising, scale: float) -> Ising:
    return Ising(problem.fields * scale, problem.couplings * scale)


def _seeds(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(2**31 - 1, (count,), generator=generator, device=generator.device).tolist()
