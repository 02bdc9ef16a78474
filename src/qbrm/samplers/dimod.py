"""Any sampler with dimod's interface: D-Wave's annealers, dwave-samplers, OpenJij."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.attempts import check_patience, insist
from qbrm.interop.bqm import to_bqm
from qbrm.interop.ising import Ising, check_problem
from qbrm.samplers.base import check_samples
from qbrm.samplers.temperature import Thermostat, Thermostatted

if TYPE_CHECKING:
    import dimod

SCHEDULES = ("beta_schedule", "Hp_field", "beta_range")


class DimodSampler(Thermostatted):
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
        check_patience(attempts, pause, "dimod sampler")
        self._attempts, self._pause = attempts, pause
        self._sampler, self._parameters = sampler, dict(parameters or {})
        self._thermostat = Thermostat(_final_beta(self._parameters) if beta is None else beta)

    def __repr__(self) -> str:
        return f"DimodSampler({type(self._sampler).__name__}(), {self._parameters})"

    def sample(
        self,
        fields: Float[Tensor, "batch spins"],
        couplings: Float[Tensor, "*batch spins spins"],
        samples: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch samples spins"]:
        """Draw `samples` states of every problem; see :class:`~qbrm.samplers.base.Sampler`.

        A call that fails leaves the generator as it was, so that the same call can be made again.

        Raises:
            InputError: if the problem is not one; if the sampler does not answer, fails, or returns anything but
                `samples` states of -1 and +1.
        """
        check_problem(fields, couplings)
        batched = couplings.expand(len(fields), *couplings.shape[-2:])
        before = generator.get_state()

        def draw(scale: float) -> Float[Tensor, "batch samples spins"]:
            seeds = torch.randint(2**31 - 1, (len(fields),), generator=generator, device=generator.device).tolist()
            problems = zip(fields * scale, batched * scale, seeds, strict=True)
            return torch.stack([self._solve(Ising(h, j), samples, seed) for h, j, seed in problems])

        try:
            return self._thermostat.sample(draw, fields, couplings)
        except BaseException:
            generator.set_state(before)
            raise

    def _solve(self, problem: Ising, samples: int, seed: int) -> Float[Tensor, "samples spins"]:
        seeded = {"seed": seed} if "seed" in self._sampler.parameters else {}
        model, name = to_bqm(problem), type(self._sampler).__name__

        def call() -> dimod.SampleSet:
            found = self._sampler.sample(model, num_reads=samples, **seeded, **self._parameters)
            found.resolve()  # a remote solver's answer is a promise, which fails when it is read
            return found

        found = insist(call, name, self._attempts, self._pause)
        states = torch.as_tensor(_states(found, len(problem.fields)), device=problem.fields.device)
        states = states.to(problem.fields.dtype)
        check_samples(states[None], problem.fields[None], samples, name)
        return states


def _final_beta(parameters: Mapping[str, Any]) -> float | None:
    schedules = (parameters[name] for name in SCHEDULES if parameters.get(name) is not None)
    return next((float(schedule[-1]) for schedule in schedules), None)


def _states(found: dimod.SampleSet, spins: int) -> Int8[np.ndarray, "samples spins"]:
    """States in the order of our spins, aggregated ones repeated as often as they occurred."""
    variables = list(found.variables)
    if sorted(variables, key=str) != sorted(range(spins), key=str):
        raise InputError(f"dimod sampler returned variables {variables}; expected 0 to {spins - 1}.")
    record = found.change_vartype("SPIN", inplace=False).record
    order = np.argsort(variables)
    return np.repeat(record.sample[:, order], record.num_occurrences, axis=0)
