"""How far samplers' states are from the Boltzmann distribution of small problems, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.interop.ising import Ising
from qbrm.samplers import SAMPLERS, BifurcationSampler, Sampler, dwave_sampler, kaiwu_gibbs, openjij_sampler
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.gibbs import GibbsSampler
from qbrm_lab.studies.sampler_training import BITS

STATES = 4096
SWEEPS = (1, 4, 16, 64)
BIFURCATION_STEPS = (20, 50, 100, 500)


@dataclass(frozen=True)
class SamplerError:
    """One sampler with one effort on one seed's problems, as :class:`SamplerErrorRow` has it."""

    sampler: str
    effort: int | None
    seconds: float
    total_variation: float
    mean_error: float
    energy_error: float


class _Exact(NamedTuple):
    states: Float[Tensor, "all spins"]
    probability: Float[Tensor, "batch all"]
    energy: Float[Tensor, "batch all"]


def sampler_errors(problem: Ising, seed: int) -> list[SamplerError]:
    """Draw 4,096 states of every problem with every sampler and compare them with enumeration.

    Independent states from the right distribution have errors too: those of the sampler ``exact`` are the floor.

    Args:
        problem: Ising problems of at most 16 spins.
        seed: seeds the draws.
    """
    exact = _enumerate(problem)
    rows: list[SamplerError] = []
    for name, effort, sampler in _samplers():
        sampler.sample(problem.fields[:1], problem.couplings, 16, torch.Generator().manual_seed(seed))  # compiles
        start = time.process_time()
        states = sampler.sample(problem.fields, problem.couplings, STATES, torch.Generator().manual_seed(seed))
        seconds = (time.process_time() - start) / len(problem.fields)
        rows.append(SamplerError(name, effort, seconds, *_distances(states, exact)))
    return rows


def _samplers() -> Iterator[tuple[str, int | None, Sampler]]:
    yield "exact", None, ExactSampler()
    for sweeps in SWEEPS:
        yield "gibbs", sweeps, GibbsSampler(sweeps=sweeps, chains=STATES)
    for sweeps in SWEEPS:
        parameters: dict[str, object] = {"beta_range": (0.1, 1.0), "num_sweeps": sweeps}
        yield "annealing", sweeps, dwave_sampler("SimulatedAnnealingSampler", parameters)
    for sweeps in SWEEPS:
        yield "openjij", sweeps, openjij_sampler(sweeps)
    for bits in BITS:
        yield "kaiwu-gibbs, bits", bits, kaiwu_gibbs(bits, STATES, chains=STATES)
    for steps in BIFURCATION_STEPS:
        yield "bifurcation, steps", steps, BifurcationSampler(steps)
    yield "descent", None, SAMPLERS["descent"]()


def _enumerate(problem: Ising) -> _Exact:
    spins = problem.fields.shape[1]
    bits = torch.arange(2**spins)[:, None] >> torch.arange(spins)
    states = (bits % 2 * 2 - 1).double()
    fields, couplings = problem.fields.double(), problem.couplings.double()
    exponent = fields @ states.T + ((states @ couplings) * states).sum(1) / 2
    return _Exact(states, exponent.softmax(1), -exponent)


def _distances(states: Float[Tensor, "batch samples spins"], exact: _Exact) -> tuple[float, float, float]:
    spins = states.shape[2]
    index = ((states > 0).long() << torch.arange(spins)).sum(2)
    share = torch.stack([torch.bincount(row, minlength=2**spins) for row in index]).double() / states.shape[1]
    mean_error = (share - exact.probability) @ exact.states
    energy = (exact.probability * exact.energy).sum(1)
    deviation = ((exact.probability * (exact.energy - energy[:, None]).square()).sum(1)).sqrt()
    energy_error = ((share - exact.probability) * exact.energy).sum(1) / deviation
    return (
        float((share - exact.probability).abs().sum(1).mean() / 2),
        float(mean_error.square().mean().sqrt()),
        float(energy_error.square().mean().sqrt()),
    )
