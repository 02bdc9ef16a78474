"""Energy scores f(e, r), by name. They work on tensors, not on text or files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.energies.ebrm import EBRM
from qbrm.energies.product import Product
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

# A product is not fitted: it is merged from scores that were, and saved like them.
PRODUCT = "product"


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


def describe(score: EnergyScore) -> dict[str, Any]:
    """Name and settings of a score, as JSON holds them: with its tensors, all that rebuilds it."""
    settings = score.settings()
    if isinstance(score, Product):
        return {"name": PRODUCT, **settings, "machines": [describe(machine) for machine in settings["machines"]]}
    return {"name": next(name for name, kind in ENERGY_SCORES.items() if kind is type(score)), **settings}


def from_description(description: Mapping[str, Any]) -> EnergyScore:
    """Build the score that :func:`describe` described, without its tensors.

    Raises:
        ValueError: if the name is unknown, or the settings do not fit.
        TypeError: if a setting is missing or unknown.
    """
    settings = dict(description)
    name = settings.pop("name")
    if name == PRODUCT:
        machines = [from_description(machine) for machine in settings.pop("machines")]
        return Product(machines, **settings)  # type: ignore[arg-type]
    if name not in ENERGY_SCORES:
        raise ValueError(f"unknown score {name!r}, known are {', '.join(ENERGY_SCORES)}")
    return ENERGY_SCORES[name](**settings)


__all__ = [
    "EBRM",
    "ENERGY_SCORES",
    "RBM",
    "BoltzmannScore",
    "Clamped",
    "CoupledBoltzmannMachine",
    "EnergyScore",
    "Product",
    "Residual",
    "SemiQuantumRBM",
    "TransverseFieldMachine",
    "build_score",
    "describe",
    "from_description",
]
