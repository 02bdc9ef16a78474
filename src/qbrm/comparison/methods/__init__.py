"""Compared methods, by name."""

from dataclasses import replace

from qbrm.comparison.methods.base import Fitted, Method, Task
from qbrm.comparison.methods.distributional import Distributional, GaussianHead, QuantileHead
from qbrm.comparison.methods.energy import EnergyMethod
from qbrm.comparison.methods.ensemble import BaseEnsemble, mean, uncertainty_weighted, worst_case
from qbrm.comparison.methods.mlp import MLP
from qbrm.comparison.methods.reference import Base, Length, TemperedBase
from qbrm.training import TrainingSettings

EBRM_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=9e-5, weight_decay=1e-2)
QBM_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=2e-4, weight_decay=1e-2)
MLP_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=3e-4, weight_decay=1e-2)

_EBRM = EnergyMethod("ebrm", "ebrm", "nce", "ascent", filter_conflicts=True, settings=EBRM_TRAINING)
_SQRBM = EnergyMethod("sqrbm", "sqrbm", "preference", "mode", filter_conflicts=False, settings=QBM_TRAINING)

METHODS: dict[str, Method] = {
    "length": Length(),
    "base": Base(),
    "base-tempered": TemperedBase(),
    "base-mean": BaseEnsemble("base-mean", mean),
    "base-worst": BaseEnsemble("base-worst", worst_case),
    "base-uncertainty": BaseEnsemble("base-uncertainty", uncertainty_weighted),
    "mlp": MLP("mlp", MLP_TRAINING),
    "mlp-ensemble": MLP("mlp-ensemble", MLP_TRAINING, members=5),
    "mlp-gate": MLP("mlp-gate", MLP_TRAINING, gated=True),
    "mlp-gate-ensemble": MLP("mlp-gate-ensemble", MLP_TRAINING, members=5, gated=True, folds=True),
    "gaussian": Distributional("gaussian", GaussianHead, MLP_TRAINING),
    "quantile": Distributional("quantile", QuantileHead, MLP_TRAINING),
    "ebrm": _EBRM,
    "ebrm-exact": replace(_EBRM, name="ebrm-exact", objective="likelihood", refinement="mode"),
    "rbm": replace(_SQRBM, name="rbm", score="rbm"),
    "sqrbm": _SQRBM,
    "sqrbm-ensemble": replace(_SQRBM, name="sqrbm-ensemble", members=5),
    "sqrbm-gate": replace(_SQRBM, name="sqrbm-gate", gated=True),
    "sqrbm-gate-ensemble": replace(_SQRBM, name="sqrbm-gate-ensemble", gated=True, members=5),
    "qbm": replace(_SQRBM, name="qbm", score="qbm", refinement="mean"),
}

__all__ = ["METHODS", "EnergyMethod", "Fitted", "Method", "Task"]
