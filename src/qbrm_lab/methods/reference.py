"""Methods that learn nothing: what every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from qbrm_lab.methods.base import Fitted, Method, Task, base_reward, bradley_terry
from qbrm_lab.methods.ensemble import BaseEnsemble
from qbrm_lab.methods.length_calibration import LengthCalibratedBase
from qbrm_lab.methods.names import Defaults, MethodName
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features


@dataclass(frozen=True)
class Length:
    """The longer response wins."""

    name: str = "length"

    def fit(self, task: Task) -> Fitted:
        """Nothing to train; a length claims no probability."""
        return Fitted(_length)


@dataclass(frozen=True)
class Base:
    """The reward model as it is."""

    name: str = "base"

    def fit(self, task: Task) -> Fitted:
        """Nothing to train: the reward model is frozen."""
        return Fitted(base_reward, bradley_terry)


@dataclass(frozen=True)
class TemperedBase:
    """The reward model's order, with calibrated probabilities."""

    name: str = "base:tempered"

    def fit(self, task: Task) -> Fitted:
        """Set one temperature on the validation pairs."""
        return Fitted(base_reward, tempered(base_reward, task))


def length(name: MethodName, defaults: Defaults) -> Method:
    """The method ``length``."""
    return Length()


def base(name: MethodName, defaults: Defaults) -> Method:
    """The method ``base``, or one of its variants."""
    if not name.options:
        return Base()
    (option,) = name.options
    if option == "tempered":
        return TemperedBase()
    return LengthCalibratedBase() if option == "length" else BaseEnsemble(str(name), option)


def _length(features: Features) -> Float[Tensor, " responses"]:
    return features.length.float()
