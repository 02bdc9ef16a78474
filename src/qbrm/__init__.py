"""QBRM: reward models, refined after training by energy-based models and quantum Boltzmann machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qbrm.model.energy_reward_model import EnergyRewardModel

__version__ = "0.2.0"
__all__ = ["EnergyRewardModel", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing the models takes seconds, which `qbrm --help` should not.
    if name == "EnergyRewardModel":
        from qbrm.model.energy_reward_model import EnergyRewardModel

        return EnergyRewardModel
    raise AttributeError(f"module 'qbrm' has no attribute {name!r}")
