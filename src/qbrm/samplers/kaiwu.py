"""Any optimizer with Kaiwu's interface, and any of our samplers behind that interface."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int8, Num, Shaped
from torch import Tensor
from typing_extensions import override

from qbrm.errors import InputError
from qbrm.interop.ising import Ising
from qbrm.interop.kaiwu_matrix import from_kaiwu_matrix, spins_of, to_kaiwu_matrix
from qbrm.interop.kaiwu_sdk import unattended
from qbrm.samplers.base import Couplings, Fields, Sampler, Spins
from qbrm.samplers.device import DeviceSampler

Matrix: TypeAlias = Num[np.ndarray, "rows rows"]


class KaiwuOptimizer(Protocol):
    """What Kaiwu's optimizers, its coherent Ising machine and its precision reducer have in common."""

    def solve(self, ising_matrix: Matrix) -> Shaped[np.ndarray, "solutions rows"] | None:
        """Spins x of low energy :math:`-x^T K x`; None while the task is still being computed."""


class KaiwuSampler(DeviceSampler):
    r"""Draws from :math:`p(s) \propto \exp(h^\top s + \tfrac12 s^\top J s)` with one of Kaiwu's optimizers.

    .. math:: E(x) = -x^\top K x, \qquad K = \frac{c}{2} \begin{pmatrix} J & h \\ h^\top & 0 \end{pmatrix},
              \qquad s_i = x_i x_{M+1}, \qquad c = 1 / \beta

    With `bits`, K is rounded to signed integers of that width, as the coherent Ising machine needs (8 bits: -127 to
    127). The device's temperature then decides how much of that range a problem fills, since only c K is drawn at unit
    temperature: on a hot device a problem uses the range well, on a cold one it is coarse, and `distortion` says how
    coarse. A problem that would leave the range is scaled back into it and comes out too hot.

    Kaiwu draws its own random numbers; the generator only chooses among the solutions, and seeds our own samplers. An
    optimizer that returns the best states it met follows no Boltzmann distribution at any temperature;
    `effective_beta` is then far from 1. The SDK's simulated annealing is one; see docs/kaiwu.md.

    Args:
        optimizer: anything with `solve(ising_matrix)`.
        beta: the device's inverse temperature, its energy being :math:`-x^\top K x`. Without it, it is estimated and
            corrected as :class:`~qbrm.samplers.temperature.Thermostat` does, beginning with the whole range of `bits`.
        bits: width of the integers that the device takes, sign included; None for numbers as they are.
        solves: how many calls may be made for one problem until there are enough solutions.
        attempts: how often a call is tried that ends in a time-out or a lost connection, or is not finished.
        pause: seconds before the second attempt; each later pause is twice as long.

    Attributes:
        distortion: what rounding did to the last problems: the root mean square over random states of the change in
            log-probability, in nats, for the problem that it changed most. Zero without `bits`.

    Raises:
        InputError: if beta is not positive, `bits` is less than 2, `solves` or `attempts` is less than 1, or `pause` is
            negative.
    """

    def __init__(
        self,
        optimizer: KaiwuOptimizer,
        beta: float | None = None,
        bits: int | None = None,
        solves: int = 16,
        attempts: int = 4,
        pause: float = 5.0,
    ) -> None:
        for name, value, least in (("bits", bits, 2), ("solves", solves, 1)):
            if value is not None and value < least:
                raise InputError(f"kaiwu sampler: {name} is {value}; expected {least} or more.")
        super().__init__("kaiwu sampler", beta, attempts, pause)
        self._optimizer, self._solves = optimizer, solves
        self._limit = math.inf if bits is None else 2.0 ** (bits - 1) - 1
        self._to_fill = self._fill_range = bits is not None and beta is None
        self.distortion = 0.0

    @property
    @override
    def _device_name(self) -> str:
        return type(self._optimizer).__name__

    def __repr__(self) -> str:
        return f"KaiwuSampler({self._device_name}(), limit={self._limit})"

    @override
    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        states = super().sample(fields, couplings, samples, generator)
        self._fill_range = False
        return states

    @override
    def _prepare(self, problems: Sequence[Ising], generator: torch.Generator) -> None:
        if self._fill_range:
            largest = max(float(np.abs(to_kaiwu_matrix(problem)).max()) for problem in problems)
            self._thermostat.scale = self._limit / largest if largest else 1.0
        if isinstance(self._optimizer, _AsKaiwuOptimizer):
            self._optimizer.reseed(generator)

    @override
    def _draw(
        self, problems: Sequence[Ising], scale: float, samples: int, generator: torch.Generator
    ) -> Iterator[Num[Tensor, "samples spins"]]:
        self.distortion = 0.0
        for problem in problems:
            solutions = self._solutions(self._rounded(to_kaiwu_matrix(problem), scale), samples)
            chosen = torch.randperm(len(solutions), generator=generator, device=generator.device)[:samples].cpu()
            yield torch.from_numpy(spins_of(solutions))[chosen]

    @override
    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._fill_range else super().state_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._fill_range = self._to_fill and not state

    def _solutions(self, matrix: Matrix, count: int) -> Shaped[np.ndarray, "solutions rows"]:
        solved: list[Shaped[np.ndarray, "solutions rows"]] = []
        for _ in range(self._solves):
            solved.append(self._solve(matrix))
            if sum(map(len, solved)) >= count:
                return np.concatenate(solved)
        raise InputError(
            f"{self._device_name} returned {sum(map(len, solved))} solutions in {self._solves} solves; expected "
            f"{count}: raise its size_limit or sample_number."
        )

    def _solve(self, matrix: Matrix) -> Shaped[np.ndarray, "solutions rows"]:
        def call() -> Shaped[np.ndarray, "solutions rows"] | None:
            with unattended():
                return self._optimizer.solve(matrix)

        solutions = np.asarray(self._call(call))
        if solutions.ndim != 2 or solutions.shape[1] != len(matrix):
            name = self._device_name
            raise InputError(f"{name} returned shape {solutions.shape}; expected (solutions, {len(matrix)}).")
        return solutions

    def _rounded(self, matrix: Float64[np.ndarray, "rows rows"], scale: float) -> Matrix:
        if math.isinf(self._limit):
            return matrix * scale
        scale = min(scale, self._limit / max(float(np.abs(matrix).max()), 1e-300))
        rounded = np.rint(matrix * scale)
        self.distortion = max(self.distortion, math.sqrt(2) * float(np.linalg.norm(rounded / scale - matrix)))
        return rounded.astype(np.int64)


class _AsKaiwuOptimizer:
    def __init__(self, sampler: Sampler, samples: int, generator: torch.Generator, beta: float) -> None:
        self._sampler, self._samples, self._generator, self._beta = sampler, samples, generator, beta

    def reseed(self, generator: torch.Generator) -> None:
        """Draw from here on what another generator's state decides."""
        self._generator.manual_seed(int(torch.randint(2**31, (), generator=generator, device=generator.device)))

    def solve(self, ising_matrix: Num[np.ndarray, "spins+1 spins+1"]) -> Int8[np.ndarray, "samples spins+1"]:
        problem = from_kaiwu_matrix(ising_matrix)
        fields, couplings = self._beta * problem.fields[None], self._beta * problem.couplings
        states = self._sampler.sample(fields, couplings, self._samples, self._generator)[0]
        gauge = states.new_ones(self._samples, 1)
        return torch.cat([states, gauge], dim=-1).to(torch.int8).numpy()


def as_kaiwu_optimizer(sampler: Sampler, samples: int, generator: torch.Generator, beta: float = 1.0) -> KaiwuOptimizer:
    r"""One of our samplers with Kaiwu's interface: `solve(K)` draws from :math:`\exp(\beta x^\top K x)`, last spin +1.

    `sample` and `condition_sample` of kaiwu-torch-plugin's Boltzmann machines take it. (The plugin's `condition_sample`
    hands over a wrong matrix; see :func:`~qbrm.interop.kaiwu_plugin.hidden_ising_matrix`.)

    Args:
        sampler: any of ours.
        samples: how many solutions each `solve` returns.
        generator: source of randomness.
        beta: inverse temperature; a small one makes a hot device, on whose problems few bits are many levels.
    """
    return _AsKaiwuOptimizer(sampler, samples, generator, beta)
