"""What scores are trained with, by name."""

from collections.abc import Callable

from qbrm.energies.base import EnergyScore
from qbrm.objectives.base import Objective
from qbrm.objectives.bradley_terry import BradleyTerry
from qbrm.objectives.likelihood import Likelihood
from qbrm.objectives.nce import NCEPlus
from qbrm.objectives.preference import PreferenceLikelihood

OBJECTIVES: dict[str, Callable[[], Objective[EnergyScore]]] = {
    "nce": NCEPlus,
    "likelihood": Likelihood,
    "preference": PreferenceLikelihood,
}

__all__ = ["OBJECTIVES", "BradleyTerry", "Likelihood", "NCEPlus", "Objective", "PreferenceLikelihood"]
