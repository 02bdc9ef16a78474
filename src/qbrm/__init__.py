"""QBRM: reward models, refined after training by energy-based models and quantum Boltzmann machines.

Everything a user needs is importable from here; a name loads its module when it is first used, so that importing the
package takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qbrm.energies import (
        EBRM,
        RBM,
        CoupledBoltzmannMachine,
        EnergyScore,
        Product,
        Residual,
        SemiQuantumRBM,
        TransverseFieldMachine,
    )
    from qbrm.energies.candidates import CandidateMachine, Candidates
    from qbrm.errors import InputError
    from qbrm.features import FeatureTable, build_features
    from qbrm.fitting import FitSettings, TrainingSettings
    from qbrm.model import EnergyRewardModel, RewardDistribution
    from qbrm.model.export.classifier import export_classifier
    from qbrm.model.merge import merge
    from qbrm.preferences import read_preferences, sample_source
    from qbrm.refinement import Ascent, Pessimistic, refine
    from qbrm.reward_models import load_reward_model
    from qbrm.rlhf.served import RewardClient
    from qbrm.rlhf.trl import RewardFunction
    from qbrm.samplers import Sampler
    from qbrm.samplers.dimod import DimodSampler
    from qbrm.samplers.exact import ExactSampler
    from qbrm.samplers.gibbs import GibbsSampler
    from qbrm.samplers.kaiwu import KaiwuSampler

__version__ = "0.2.0"

_MODULES = {
    "Ascent": "refinement",
    "CandidateMachine": "energies.candidates",
    "Candidates": "energies.candidates",
    "CoupledBoltzmannMachine": "energies",
    "DimodSampler": "samplers.dimod",
    "EBRM": "energies",
    "EnergyRewardModel": "model",
    "EnergyScore": "energies",
    "ExactSampler": "samplers.exact",
    "FeatureTable": "features",
    "FitSettings": "fitting",
    "GibbsSampler": "samplers.gibbs",
    "InputError": "errors",
    "KaiwuSampler": "samplers.kaiwu",
    "Pessimistic": "refinement",
    "Product": "energies",
    "RBM": "energies",
    "RewardClient": "rlhf.served",
    "Residual": "energies",
    "RewardDistribution": "model",
    "RewardFunction": "rlhf.trl",
    "Sampler": "samplers",
    "SemiQuantumRBM": "energies",
    "TrainingSettings": "fitting",
    "TransverseFieldMachine": "energies",
    "build_features": "features",
    "export_classifier": "model.export.classifier",
    "load_reward_model": "reward_models",
    "merge": "model.merge",
    "read_preferences": "preferences",
    "refine": "refinement",
    "sample_source": "preferences",
}

__all__ = [
    "EBRM",
    "RBM",
    "Ascent",
    "CandidateMachine",
    "Candidates",
    "CoupledBoltzmannMachine",
    "DimodSampler",
    "EnergyRewardModel",
    "EnergyScore",
    "ExactSampler",
    "FeatureTable",
    "FitSettings",
    "GibbsSampler",
    "InputError",
    "KaiwuSampler",
    "Pessimistic",
    "Product",
    "Residual",
    "RewardClient",
    "RewardDistribution",
    "RewardFunction",
    "Sampler",
    "SemiQuantumRBM",
    "TrainingSettings",
    "TransverseFieldMachine",
    "__version__",
    "build_features",
    "export_classifier",
    "load_reward_model",
    "merge",
    "read_preferences",
    "refine",
    "sample_source",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"qbrm.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'qbrm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
