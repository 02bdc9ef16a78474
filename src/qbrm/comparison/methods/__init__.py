"""Compared methods, by name."""

from qbrm.comparison.methods.base import Fitted, Method, Task
from qbrm.comparison.methods.energy import EnergyMethod
from qbrm.comparison.methods.mlp import MLP
from qbrm.comparison.methods.reference import Base, Length
from qbrm.training import TrainingSettings

EBRM_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=9e-5, weight_decay=1e-2)
QBM_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=1e-3, weight_decay=1e-2)
MLP_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=3e-4, weight_decay=1e-2)

METHODS: dict[str, Method] = {
    "length": Length(),
    "base": Base(),
    "mlp": MLP(MLP_TRAINING),
    "ebrm": EnergyMethod("ebrm", "nce", "ascent", filter_conflicts=True, settings=EBRM_TRAINING),
    "rbm": EnergyMethod("rbm", "preference", "mode", filter_conflicts=False, settings=QBM_TRAINING),
    "sqrbm": EnergyMethod("sqrbm", "preference", "mode", filter_conflicts=False, settings=QBM_TRAINING),
    "qbm": EnergyMethod("qbm", "preference", "mean", filter_conflicts=False, settings=QBM_TRAINING),
}

__all__ = ["METHODS", "EnergyMethod", "Fitted", "Method", "Task"]
