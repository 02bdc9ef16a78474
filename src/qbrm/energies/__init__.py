"""Energy scores f(e, r), by name. They know nothing of text or files."""

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.ebrm import EBRM
from qbrm.energies.qbm import CoupledBoltzmannMachine
from qbrm.energies.rbm import RBM
from qbrm.energies.sqrbm import SemiQuantumRBM

ENERGY_SCORES: dict[str, type[EnergyScore]] = {
    "ebrm": EBRM,
    "rbm": RBM,
    "sqrbm": SemiQuantumRBM,
    "qbm": CoupledBoltzmannMachine,
}

__all__ = ["EBRM", "ENERGY_SCORES", "RBM", "Clamped", "CoupledBoltzmannMachine", "EnergyScore", "SemiQuantumRBM"]
