"""Energy scores f(e, r), by name. They work on tensors, not on text or files."""

from __future__ import annotations

import inspect
from typing import Any

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.energies.ebrm import EBRM
from qbrm.energies.qbm import CoupledBoltzmannMachine
from qbrm.energies.rbm import RBM
from qbrm.energies.residual import Residual
from qbrm.energies.sqrbm import SemiQuantumRBM
from qbrm.energies.tqbm import TransverseFieldMachine

ENERGY_SCORES: dict[str, type[EnergyScore]] = {
    "ebrm": EBRM,
    "residual": Residual,
    "rbm": RBM,
    "sqrbm": SemiQuantumRBM,
    "qbm": CoupledBoltzmannMachine,
    "tqbm": TransverseFieldMachine,
}


def build_score(name: str, dim: int, **options: Any) -> EnergyScore:
    """Build an untrained score.

    Args:
        name: one of `ENERGY_SCORES`.
        dim: embedding size D.
        **options: arguments of its constructor; None, and those that it does not take, are left out.
    """
    taken = inspect.signature(ENERGY_SCORES[name]).parameters
    return ENERGY_SCORES[name](
        dim, **{option: value for option, value in options.items() if option in taken and value is not None}
    )


__all__ = [
    "EBRM",
    "ENERGY_SCORES",
    "RBM",
    "BoltzmannScore",
    "Clamped",
    "CoupledBoltzmannMachine",
    "EnergyScore",
    "Residual",
    "SemiQuantumRBM",
    "TransverseFieldMachine",
    "build_score",
]
