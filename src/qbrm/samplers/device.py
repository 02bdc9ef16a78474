"""What samplers of other packages share: a temperature of their own, and calls that may fail and are made again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Num
from torch import Tensor

from qbrm.interop.attempts import call_with_retries, check_retries
from qbrm.interop.ising import Ising, check_problem
from qbrm.samplers.base import Couplings, Fields, Spins, check_samples
from qbrm.samplers.temperature import Thermostat, Thermostatted

Answer = TypeVar("Answer")


class DeviceSampler(Thermostatted, ABC):
    """Draws with a device that takes one problem at a time and has a temperature of its own.

    `kind` is what errors about arguments call it; a thermostat estimates a `beta` of None.

    Raises:
        InputError: if beta is not positive, `attempts` is less than 1, or `pause` is negative.
    """

    def __init__(self, kind: str, beta: float | None, attempts: int, pause: float) -> None:
        check_retries(attempts, pause, kind)
        self._attempts, self._pause = attempts, pause
        self._thermostat = Thermostat(beta)

    @property
    @abstractmethod
    def _device_name(self) -> str:
        """The device's class, for messages."""

    @abstractmethod
    def _draw(
        self, problems: Sequence[Ising], scale: float, samples: int, generator: torch.Generator
    ) -> Iterator[Num[Tensor, "samples spins"]]:
        """What the device returns for each problem times a scale, one after the other."""

    def _prepare(self, problems: Sequence[Ising], generator: torch.Generator) -> None:
        """Set up what depends on all problems, before the first is drawn from."""

    def _call(self, call: Callable[[], Answer | None]) -> Answer:
        return call_with_retries(call, self._device_name, self._attempts, self._pause)

    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        """Draw `samples` states of every problem; a call that fails leaves the generator as it was, to be made again.

        Raises:
            InputError: if the problem is not one, or the device does not answer, fails, has no licence, or returns
                anything but `samples` states of -1 and +1.
        """
        check_problem(fields, couplings)
        batched = couplings.expand(len(fields), *couplings.shape[-2:])
        problems = [Ising(*problem) for problem in zip(fields, batched, strict=True)]

        def draw(scale: float) -> Float[Tensor, "batch samples spins"]:
            states = []
            for drawn in self._draw(problems, scale, samples, generator):
                states.append(drawn.to(fields))
                check_samples(states[-1][None], fields[:1], samples, self._device_name)
            return torch.stack(states)

        return self._corrected(draw, fields, couplings, generator, lambda: self._prepare(problems, generator))

    def _corrected(
        self,
        draw: Callable[[float], Spins],
        fields: Fields,
        couplings: Couplings,
        generator: torch.Generator,
        prepare: Callable[[], None] = lambda: None,
    ) -> Spins:
        """What `draw` gives at the device's temperature; if it fails, the generator is as it was."""
        before = generator.get_state()
        try:
            prepare()
            return self._thermostat.sample(draw, fields, couplings)
        except BaseException:
            generator.set_state(before)
            raise
