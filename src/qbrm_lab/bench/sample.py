"""How fast spins are drawn, and how far the drawn moments are off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.samplers.exact import LIMIT, ExactSampler
from qbrm.samplers.gibbs import GibbsSampler
from qbrm_lab.bench.timing import Work, rows_per_second

CASES = ((16, 64), (64, 64), (256, 64), (1024, 64), (64, 16), (64, 256), (64, 2048))
"""Spins and batch."""
CHAINS = (4, 16, 64)
CHAINS_AT = (64, 256)
"""Spins and batch at which several chains a problem are timed too."""
KPP = "kaiwu-torch-plugin"
DWAVE = "dwave annealing"
UPDATES = 2_000_000
KPP_UPDATES = 100_000
LEAST_SWEEPS = 50
SETTLING_SWEEPS = 30
CHECKED_SPINS = 16
CHECKED_STATES = 32_768


class Problem(NamedTuple):
    """Ising problems with common couplings."""

    fields: Float[Tensor, "batch spins"]
    couplings: Float[Tensor, "spins spins"]


class TimedSampler(NamedTuple):
    """A sampler that takes a problem, sweeps and a seed, and how it is timed.

    Attributes:
        chains: states per problem.
        updates: spin updates per timing.
        least: fewest sweeps per timing.
        settling: sweeps before the error is measured.
    """

    draw: Callable[[Problem, int, int], Float[Tensor, "states spins"]]
    chains: int = 1
    updates: int = UPDATES
    least: int = LEAST_SWEEPS
    settling: int = SETTLING_SWEEPS


def bench_sample(seed: int) -> list[dict[str, Any]]:
    """Time samplers on the same random problems, in spin updates (attempted flips) a second.

    `exact` has no flips: each spin of each state that it draws counts as one. The references, where installed, draw as
    many states of the first problem as the batch has problems: the Gibbs loop of kaiwu-torch-plugin, and the simulated
    annealing of dwave-samplers, once with its own schedule (ratios are to this one, the faster up to some hundred
    spins) and once at a constant temperature of 1, where it is a sampler. The error is the largest difference between
    a mean or correlation and its exact value on one such problem of 16 spins, from 32,768 states after 30 sweeps;
    independent states have about 0.014.
    """
    samplers = {
        "exact": TimedSampler(_exact, least=1, settling=1),
        "gibbs": TimedSampler(_gibbs),
        **{f"gibbs, {chains} chains": TimedSampler(partial(_gibbs, chains=chains), chains) for chains in CHAINS},
        **_references(),
    }
    error = _errors(samplers, seed)
    rows: list[dict[str, Any]] = []
    for spins, batch in CASES:
        usable = {name: sampler for name, sampler in samplers.items() if _is_shown(name, spins, batch)}
        rate = _rates(usable, make_problem(spins, batch, seed), seed)
        rows += [
            {
                "sampler": name,
                "spins": spins,
                "batch": batch,
                "spin_updates_per_s": rate[name],
                "ratio_to_kpp": rate[name] / rate[KPP] if KPP in rate else None,
                "ratio_to_dwave": rate[name] / rate[DWAVE] if DWAVE in rate else None,
                "max_moment_error": error[name],
            }
            for name in usable
        ]
    return rows


def make_problem(spins: int, batch: int, seed: int) -> Problem:
    """Draw a spin glass (Sherrington & Kirkpatrick, 1975): couplings of size 1 / sqrt(spins), fields of size 1/2."""
    generator = torch.Generator().manual_seed(seed)
    upper = (torch.randn(spins, spins, generator=generator) / spins**0.5).triu(1)
    return Problem(torch.randn(batch, spins, generator=generator) / 2, upper + upper.T)


def _is_shown(name: str, spins: int, batch: int) -> bool:
    return spins <= LIMIT if name == "exact" else "chains" not in name or (spins, batch) == CHAINS_AT


def _rates(samplers: Mapping[str, TimedSampler], problem: Problem, seed: int) -> dict[str, float]:
    works = {}
    for name, sampler in samplers.items():
        per_sweep = problem.fields.numel() * sampler.chains
        sweeps = max(sampler.least, -(-sampler.updates // per_sweep))
        works[name] = Work(partial(sampler.draw, problem, sweeps, seed), sweeps * per_sweep)
    return rows_per_second(works)


def _errors(samplers: Mapping[str, TimedSampler], seed: int) -> dict[str, float]:
    one = make_problem(CHECKED_SPINS, 1, seed)
    mean, correlation = ExactSampler().moments(*one)
    error = {}
    for name, sampler in samplers.items():
        many = Problem(one.fields.expand(CHECKED_STATES // sampler.chains, -1), one.couplings)
        states = sampler.draw(many, sampler.settling, seed)
        worst = (states.mean(0) - mean).abs().max(), (states.T @ states / len(states) - correlation).abs().max()
        error[name] = float(max(worst))
    return error


def _exact(problem: Problem, sweeps: int, seed: int) -> Float[Tensor, "states spins"]:
    """As many states as the others make sweeps."""
    return ExactSampler().sample(*problem, sweeps, torch.Generator().manual_seed(seed)).flatten(0, 1)


def _gibbs(problem: Problem, sweeps: int, seed: int, chains: int = 1) -> Float[Tensor, "states spins"]:
    states = GibbsSampler(sweeps, chains).sample(*problem, chains, torch.Generator().manual_seed(seed))
    return states.flatten(0, 1)


def _references() -> dict[str, TimedSampler]:
    """The references that can be imported; the others are listed on standard error."""
    samplers: dict[str, TimedSampler] = {}
    try:
        machine = import_module("kaiwu.torch_plugin").BoltzmannMachine
        samplers[KPP] = TimedSampler(partial(_kpp, machine), updates=KPP_UPDATES, least=1)
    except ImportError as error:
        print(f"qbrm: no ratios to kaiwu-torch-plugin: {error}", file=sys.stderr)
    try:
        model, dwave = import_module("dimod").BinaryQuadraticModel, import_module("dwave.samplers")
        annealing = partial(_dwave, model, dwave.SimulatedAnnealingSampler())
        samplers[DWAVE] = TimedSampler(partial(annealing, constant=False))
        samplers["dwave at temperature 1"] = TimedSampler(partial(annealing, constant=True))
    except ImportError as error:
        print(f"qbrm: no ratios to dwave-samplers: {error}", file=sys.stderr)
    return samplers


def _kpp(machine: Any, problem: Problem, sweeps: int, seed: int) -> Float[Tensor, "states spins"]:
    """The plugin's machine has units x = (s + 1) / 2 and log-weight linear.x + x.quadratic x / 2."""
    couplings = problem.couplings
    linear = 2 * problem.fields[0] - 2 * couplings.sum(0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        units = machine(len(linear), 4 * couplings, linear, "cpu").gibbs_sample(sweeps, num_sample=len(problem.fields))
    spins: Tensor = 2 * units - 1
    return spins


def _dwave(
    model: Any, sampler: Any, problem: Problem, sweeps: int, seed: int, constant: bool
) -> Float[Tensor, "states spins"]:
    """The signs of h and J flip: the models of dimod are energies."""
    bqm = model(-problem.fields[0].numpy(), -problem.couplings.triu(1).numpy(), "SPIN")
    schedule = {"beta_schedule_type": "custom", "beta_schedule": [1.0] * sweeps} if constant else {"num_sweeps": sweeps}
    result = sampler.sample(bqm, num_reads=len(problem.fields), seed=seed, **schedule)
    return torch.from_numpy(result.record.sample).float()
