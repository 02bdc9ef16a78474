"""Any sampler with dimod's interface: D-Wave's annealers, dwave-samplers, OpenJij."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor
from typing_extensions import override

from qbrm.errors import InputError
from qbrm.interop.bqm import from_bqm, to_bqm
from qbrm.interop.ising import Ising
from qbrm.samplers.base import Sampler
from qbrm.samplers.device import DeviceSampler

if TYPE_CHECKING:
    import dimod

SCHEDULES = ("beta_schedule", "Hp_field", "beta_range")


class DimodSampler(DeviceSampler):
    r"""Draws from :math:`p(s) \propto \exp(h^\top s + \tfrac12 s^\top J s)` with a sampler of low energies.

    .. math:: E(s) = -c \Bigl(\sum_i h_i s_i + \sum_{i<j} J_{ij} s_i s_j\Bigr), \qquad c = 1 / \beta

    Each problem of the batch is one binary quadratic model and one call. beta is the inverse temperature that the
    sampler ends at: known, or else estimated and corrected as :class:`~qbrm.samplers.temperature.Thermostat` does. A
    sampler that looks for the lowest energy (steepest descent; simulated annealing with the schedule that it would
    choose itself) cannot be corrected, and its samples are wrong: `effective_beta` is then far from 1.

    Seeds are drawn from the generator for samplers that name `seed` among their `parameters`. Others are not
    reproducible. OpenJij's take a seed without naming it, and it is left out on purpose: they would begin every read
    with the same one, and return one state many times.

    Args:
        sampler: anything with `sample(bqm, num_reads=...)` and `parameters`.
        parameters: more arguments for `sample`, such as `beta_range`.
        beta: the sampler's final inverse temperature. Without it, it is the last value of `beta_schedule`, `Hp_field`
            or `beta_range` in `parameters`; with none of these, it is estimated.
        attempts: how often a call is tried that ends in a time-out or a lost connection.
        pause: seconds before the second attempt; each later pause is twice as long.

    Raises:
        InputError: if beta is not positive, `attempts` is less than 1, or `pause` is negative.
    """

    def __init__(
        self,
        sampler: dimod.Sampler,
        parameters: Mapping[str, Any] | None = None,
        beta: float | None = None,
        attempts: int = 4,
        pause: float = 5.0,
    ) -> None:
        self._sampler, self._parameters = sampler, dict(parameters or {})
        schedules = (self._parameters[name] for name in SCHEDULES if self._parameters.get(name) is not None)
        if beta is None:
            beta = next((float(schedule[-1]) for schedule in schedules), None)
        super().__init__("dimod sampler", beta, attempts, pause)

    @property
    @override
    def _device_name(self) -> str:
        return type(self._sampler).__name__

    def __repr__(self) -> str:
        return f"DimodSampler({self._device_name}(), {self._parameters})"

    @override
    def _draw(
        self, problems: Sequence[Ising], scale: float, samples: int, generator: torch.Generator
    ) -> Iterator[Int8[Tensor, "samples spins"]]:
        seeds = torch.randint(2**31 - 1, (len(problems),), generator=generator, device=generator.device).tolist()
        for (fields, couplings), seed in zip(problems, seeds, strict=True):
            yield torch.from_numpy(self._solve(Ising(fields * scale, couplings * scale), samples, seed))

    def _solve(self, problem: Ising, samples: int, seed: int) -> Int8[np.ndarray, "samples spins"]:
        seeded = {"seed": seed} if "seed" in self._sampler.parameters else {}
        model = to_bqm(problem)

        def call() -> dimod.SampleSet:
            answer = self._sampler.sample(model, num_reads=samples, **seeded, **self._parameters)
            answer.resolve()  # a remote solver's answer is a promise, which fails when it is read
            return answer

        return _states(self._call(call), len(problem.fields))


def as_dimod_sampler(sampler: Sampler, generator: torch.Generator, beta: float = 1.0) -> dimod.Sampler:
    """One of our samplers with dimod's interface: `sample(bqm, num_reads=...)` draws from exp(-beta E).

    Whatever takes a dimod sampler takes it: the `DimodSampler` of dwave-pytorch-plugin, for one.

    Args:
        sampler: any of ours.
        generator: source of randomness.
        beta: inverse temperature.

    Raises:
        InputError: if dimod is not installed.
    """
    try:
        import dimod
    except ImportError as error:
        raise InputError("dimod samplers: the package dimod is not installed; pip install 'qbrm[dwave]'.") from error

    class AsDimodSampler(dimod.Sampler):  # type: ignore[misc]
        properties: ClassVar[dict[str, Any]] = {}
        parameters: ClassVar[dict[str, Any]] = {"num_reads": []}

        def sample(self, bqm: dimod.BinaryQuadraticModel, num_reads: int = 1) -> dimod.SampleSet:
            problem, variables = from_bqm(bqm)
            fields, couplings = beta * problem.fields[None], beta * problem.couplings
            states = sampler.sample(fields, couplings, num_reads, generator)[0].to(torch.int8).numpy()
            return dimod.SampleSet.from_samples_bqm((states, variables), bqm.spin).change_vartype(bqm.vartype)

    return AsDimodSampler()


def _states(sample_set: dimod.SampleSet, spins: int) -> Int8[np.ndarray, "samples spins"]:
    """States in the order of our spins, aggregated ones repeated as often as they occurred."""
    variables = list(sample_set.variables)
    if sorted(variables, key=str) != sorted(range(spins), key=str):
        raise InputError(f"dimod sampler returned variables {variables}; expected 0 to {spins - 1}.")
    record = sample_set.change_vartype("SPIN", inplace=False).record
    order = np.argsort(variables)
    return np.repeat(record.sample[:, order], record.num_occurrences, axis=0)
