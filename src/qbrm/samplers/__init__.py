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
    from qbrm.samplers.bifurcation import BifurcationSampler
    from qbrm.samplers.dimod import DimodSampler
    from qbrm.samplers.exact import ExactSampler
    from qbrm.samplers.gibbs import GibbsSampler
    from qbrm.samplers.kaiwu import KaiwuSampler

KAIWU_BITS = 8


def __getattr__(name: str) -> Any:
    if name not in __all__ or not name.endswith("Sampler"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = name.removesuffix("Sampler").lower() or "base"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def _exact() -> Sampler:
    from qbrm.samplers.exact import ExactSampler

    return ExactSampler()


def _gibbs(chains: int = 16) -> Sampler:
    from qbrm.samplers.gibbs import GibbsSampler

    return GibbsSampler(sweeps=20, chains=chains, thin=2)


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


def kaiwu_gibbs(bits: int = KAIWU_BITS, solutions: int = 256, chains: int = 16) -> Sampler:
    """Our Gibbs chains behind Kaiwu's interface: a simulated machine of known temperature and some precision.

    It is hot enough for couplings of about 8 to fill the range of the integers.
    """
    import torch

    from qbrm.samplers.kaiwu import KaiwuSampler, as_kaiwu_optimizer

    heat = 2.0 ** (bits - 4)
    machine = as_kaiwu_optimizer(_gibbs(chains), solutions, torch.Generator().manual_seed(0), beta=1 / heat)
    return KaiwuSampler(machine, beta=1 / heat, bits=bits)


def openjij_sampler(sweeps: int = 64) -> Sampler:
    """Simulated annealing of OpenJij to unit temperature. Raises InputError if that package is missing."""
    from qbrm.samplers.dimod import DimodSampler

    try:
        openjij = importlib.import_module("openjij")
    except ImportError as error:
        raise InputError("sampler: the package openjij is missing; pip install 'qbrm[dwave]'.") from error
    return DimodSampler(openjij.SASampler(), {"beta_min": 0.1, "beta_max": 1.0, "num_sweeps": sweeps}, beta=1.0)


def _bifurcation() -> Sampler:
    from qbrm.samplers.bifurcation import BifurcationSampler

    return BifurcationSampler()


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "exact": _exact,
    "gibbs": _gibbs,
    "annealing": lambda: dwave_sampler("SimulatedAnnealingSampler", {"beta_range": (0.1, 1.0), "num_sweeps": 64}),
    "openjij": openjij_sampler,
    "bifurcation": _bifurcation,
    "descent": lambda: dwave_sampler("SteepestDescentSampler", {}),
    "kaiwu": _kaiwu,
    "kaiwu-gibbs": kaiwu_gibbs,
}

__all__ = [
    "SAMPLERS",
    "BifurcationSampler",
    "DimodSampler",
    "ExactSampler",
    "GibbsSampler",
    "KaiwuSampler",
    "Sampler",
    "dwave_sampler",
    "kaiwu_gibbs",
    "openjij_sampler",
]
