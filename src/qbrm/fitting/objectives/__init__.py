"""What scores are trained with, by name."""

from collections.abc import Callable

from qbrm.fitting.objectives.base import Objective
from qbrm.fitting.objectives.bradley_terry import BradleyTerry
from qbrm.fitting.objectives.likelihood import Likelihood
from qbrm.fitting.objectives.nce import NCEPlus
from qbrm.fitting.objectives.preference import PreferenceLikelihood
from qbrm.fitting.trainable import TrainableScore

OBJECTIVES: dict[str, Callable[[], Objective[TrainableScore]]] = {
    "nce": NCEPlus,
    "likelihood": Likelihood,
    "preference": PreferenceLikelihood,
}

__all__ = ["OBJECTIVES", "BradleyTerry", "Likelihood", "NCEPlus", "Objective", "PreferenceLikelihood"]
