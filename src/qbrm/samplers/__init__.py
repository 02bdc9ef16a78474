"""Samplers of hidden spins, by name. They know nothing of rewards."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from qbrm.errors import InputError
from qbrm.samplers.base import Sampler


def _exact() -> Sampler:
    from qbrm.samplers.exact import ExactSampler

    return ExactSampler()


def _gibbs() -> Sampler:
    from qbrm.samplers.gibbs import GibbsSampler

    return GibbsSampler(sweeps=20, chains=16, thin=2)


def _dwave(name: str, parameters: dict[str, object]) -> Sampler:
    from qbrm.samplers.dimod import DimodSampler

    try:
        samplers = importlib.import_module("dwave.samplers")
    except ImportError as error:
        raise InputError(
            "sampler: the package dwave-samplers is missing; pip install dwave-samplers, into the environment of qbrm."
        ) from error
    return DimodSampler(getattr(samplers, name)(), parameters)


def _annealing() -> Sampler:
    return _dwave("SimulatedAnnealingSampler", {"beta_range": (0.1, 1.0), "num_sweeps": 64})


def _descent() -> Sampler:
    return _dwave("SteepestDescentSampler", {})


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "exact": _exact,
    "gibbs": _gibbs,
    "annealing": _annealing,
    "descent": _descent,
}

__all__ = ["SAMPLERS", "Sampler"]
