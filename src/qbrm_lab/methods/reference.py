"""Methods that learn nothing: what every other method has to beat."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from qbrm_lab.methods.base import Fitted, Task, bradley_terry
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features


class Length:
    """The longer response wins."""

    name = "length"

    def fit(self, task: Task) -> Fitted:
        """Nothing to train; a length claims no probability."""
        return Fitted(_length)


class Base:
    """The reward model as it is."""

    name = "base"

    def fit(self, task: Task) -> Fitted:
        """Nothing to train: the reward model is frozen."""
        return Fitted(_base_reward, bradley_terry)


class TemperedBase:
    """The reward model's order, with calibrated probabilities."""

    name = "base-tempered"

    def fit(self, task: Task) -> Fitted:
        """Set one temperature on the validation pairs."""
        return Fitted(_base_reward, tempered(_base_reward, task))


def _length(features: Features) -> Float[Tensor, " responses"]:
    return features.length.float()


def _base_reward(features: Features) -> Float[Tensor, " responses"]:
    return features.reward
