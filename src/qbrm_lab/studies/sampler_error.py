"""How far samplers' states are from the Boltzmann distribution of small problems, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.interop.ising import Ising
from qbrm.samplers import SAMPLERS, dwave_sampler
from qbrm.samplers.base import Sampler
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.gibbs import GibbsSampler
from qbrm_lab.results.study_rows import SamplerErrorRow

STATES = 4096
EFFORTS = (1, 2, 4, 8, 16, 32, 64, 128)
BITS = (4, 6, 8)


class _Exact(NamedTuple):
    states: Float[Tensor, "all spins"]
    probability: Float[Tensor, "batch all"]
    energy: Float[Tensor, "batch all"]


def sampler_errors(problem: Ising, seed: int) -> list[SamplerErrorRow]:
    """Draw 4,096 states of every problem with every sampler and compare them with enumeration.

    Independent states from the right distribution have errors too: those of the sampler ``exact`` are the floor.

    Args:
        problem: Ising problems of at most 16 spins.
        seed: seeds the draws.
    """
    exact = _enumerate(problem)
    rows: list[SamplerErrorRow] = []
    for name, effort, sampler in _samplers():
        sampler.sample(problem.fields[:1], problem.couplings, 16, torch.Generator().manual_seed(seed))  # compiles
        start = time.perf_counter()
        states = sampler.sample(problem.fields, problem.couplings, STATES, torch.Generator().manual_seed(seed))
        seconds = (time.perf_counter() - start) / len(problem.fields)
        rows.append(SamplerErrorRow(sampler=name, effort=effort, seconds=seconds, **_distances(states, exact)))
    return rows


def _samplers() -> Iterator[tuple[str, int | None, Sampler]]:
    from qbrm.samplers.kaiwu import KaiwuSampler, as_kaiwu_optimizer

    yield "exact", None, ExactSampler()
    for sweeps in EFFORTS:
        yield "gibbs", sweeps, GibbsSampler(sweeps=sweeps, chains=STATES)
    for sweeps in EFFORTS:
        parameters: dict[str, object] = {"beta_range": (0.1, 1.0), "num_sweeps": sweeps}
        yield "annealing", sweeps, dwave_sampler("SimulatedAnnealingSampler", parameters)
    for bits in BITS:
        # Hot enough for couplings of about 8 to fill the range of the integers.
        heat = 2.0 ** (bits - 4)
        generator = torch.Generator().manual_seed(bits)
        machine = as_kaiwu_optimizer(GibbsSampler(sweeps=64, chains=STATES), STATES, generator, 1 / heat)
        yield "kaiwu-gibbs, bits", bits, KaiwuSampler(machine, beta=1 / heat, bits=bits)
    yield "descent", None, SAMPLERS["descent"]()


def _enumerate(problem: Ising) -> _Exact:
    spins = problem.fields.shape[1]
    bits = torch.arange(2**spins)[:, None] >> torch.arange(spins)
    states = (bits % 2 * 2 - 1).double()
    fields, couplings = problem.fields.double(), problem.couplings.double()
    exponent = fields @ states.T + ((states @ couplings) * states).sum(1) / 2
    return _Exact(states, exponent.softmax(1), -exponent)


def _distances(states: Float[Tensor, "batch samples spins"], exact: _Exact) -> dict[str, float]:
    spins = states.shape[2]
    index = ((states > 0).long() << torch.arange(spins)).sum(2)
    share = torch.stack([torch.bincount(row, minlength=2**spins) for row in index]).double() / states.shape[1]
    mean_error = (share - exact.probability) @ exact.states
    energy = (exact.probability * exact.energy).sum(1)
    deviation = ((exact.probability * (exact.energy - energy[:, None]).square()).sum(1)).sqrt()
    energy_error = ((share - exact.probability) * exact.energy).sum(1) / deviation
    return {
        "total_variation": float((share - exact.probability).abs().sum(1).mean() / 2),
        "mean_error": float(mean_error.square().mean().sqrt()),
        "energy_error": float(energy_error.square().mean().sqrt()),
    }
