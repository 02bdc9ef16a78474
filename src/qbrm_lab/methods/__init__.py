"""Compared methods, by name."""

from dataclasses import replace

from qbrm.energies import EBRM, SemiQuantumRBM
from qbrm.fitting import TrainingSettings
from qbrm_lab.methods.base import Fitted, Method, Task
from qbrm_lab.methods.distributional import Distributional, GaussianHead, QuantileHead
from qbrm_lab.methods.energy import EnergyMethod
from qbrm_lab.methods.ensemble import BaseEnsemble, mean, uncertainty_weighted, worst_case
from qbrm_lab.methods.mlp import MLP
from qbrm_lab.methods.reference import Base, Length, TemperedBase

MLP_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=3e-4, weight_decay=1e-2)

EBRM_FIT = EBRM.fit_settings
BOLTZMANN_FIT = SemiQuantumRBM.fit_settings

_EBRM = EnergyMethod("ebrm", "ebrm", "ascent", EBRM_FIT)
_SQRBM = EnergyMethod("sqrbm", "sqrbm", "mode", BOLTZMANN_FIT)

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
    "ebrm-exact": replace(
        _EBRM, name="ebrm-exact", settings=replace(EBRM_FIT, objective="likelihood"), refinement="mode"
    ),
    "rbm": replace(_SQRBM, name="rbm", score="rbm"),
    "sqrbm": _SQRBM,
    "sqrbm-ensemble": replace(_SQRBM, name="sqrbm-ensemble", settings=replace(BOLTZMANN_FIT, members=5)),
    "sqrbm-gate": replace(_SQRBM, name="sqrbm-gate", settings=replace(BOLTZMANN_FIT, gate=True)),
    "sqrbm-gate-ensemble": replace(
        _SQRBM, name="sqrbm-gate-ensemble", settings=replace(BOLTZMANN_FIT, gate=True, members=5)
    ),
    "qbm": replace(_SQRBM, name="qbm", score="qbm", refinement="mean"),
}

__all__ = ["METHODS", "EnergyMethod", "Fitted", "Method", "Task"]
