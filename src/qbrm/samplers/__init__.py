"""Samplers of hidden spins, by name. They draw from Ising problems and need no rewards.

The names can be listed without torch; the classes are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qbrm.errors import InputError

if TYPE_CHECKING:
    from qbrm.samplers.base import Sampler
    from qbrm.samplers.dimod import DimodSampler
    from qbrm.samplers.exact import ExactSampler
    from qbrm.samplers.gibbs import GibbsSampler
    from qbrm.samplers.kaiwu import KaiwuSampler

KAIWU_BITS = 8
KAIWU_HEAT = 16.0


def __getattr__(name: str) -> Any:
    if name not in __all__ or not name.endswith("Sampler"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = name.removesuffix("Sampler").lower() or "base"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def _exact() -> Sampler:
    from qbrm.samplers.exact import ExactSampler

    return ExactSampler()


def _gibbs() -> Sampler:
    from qbrm.samplers.gibbs import GibbsSampler

    return GibbsSampler(sweeps=20, chains=16, thin=2)


def dwave_sampler(name: str, parameters: dict[str, object]) -> Sampler:
    """A sampler of dwave-samplers, by its class. Raises InputError if that package is missing."""
    from qbrm.samplers.dimod import DimodSampler

    try:
        samplers = importlib.import_module("dwave.samplers")
    except ImportError as error:
        raise InputError("sampler: the package dwave-samplers is missing; pip install 'qbrm[dwave]'.") from error
    return DimodSampler(getattr(samplers, name)(), parameters)


def _kaiwu() -> Sampler:
    from qbrm.interop.kaiwu_sdk import kaiwu_optimizer
    from qbrm.samplers.kaiwu import KaiwuSampler

    machine = kaiwu_optimizer("cim.CIMOptimizer", task_name="qbrm", wait=True, task_mode="sampling", sample_number=256)
    return KaiwuSampler(machine, bits=KAIWU_BITS)


def _kaiwu_gibbs() -> Sampler:
    """Our Gibbs chains behind Kaiwu's interface at its precision: a simulated machine of known temperature."""
    import torch

    from qbrm.samplers.kaiwu import KaiwuSampler, as_kaiwu_optimizer

    machine = as_kaiwu_optimizer(_gibbs(), 256, torch.Generator().manual_seed(0), beta=1 / KAIWU_HEAT)
    return KaiwuSampler(machine, beta=1 / KAIWU_HEAT, bits=KAIWU_BITS)


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "exact": _exact,
    "gibbs": _gibbs,
    "annealing": lambda: dwave_sampler("SimulatedAnnealingSampler", {"beta_range": (0.1, 1.0), "num_sweeps": 64}),
    "descent": lambda: dwave_sampler("SteepestDescentSampler", {}),
    "kaiwu": _kaiwu,
    "kaiwu-gibbs": _kaiwu_gibbs,
}

__all__ = ["SAMPLERS", "DimodSampler", "ExactSampler", "GibbsSampler", "KaiwuSampler", "Sampler", "dwave_sampler"]
