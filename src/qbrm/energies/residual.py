"""The plain competitor as an energy score: a network's correction of the base reward, with a width."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.energies.base import Clamped
from qbrm.energies.boltzmann import LogConcaveScore
from qbrm.energies.familiarity import GateRank
from qbrm.energies.newton import Slope
from qbrm.fitting import FitSettings, TrainingSettings
from qbrm.fitting.calibration import SMALLEST_PROBABILITY


class Residual(LogConcaveScore):
    r"""A Gaussian reward unit without hidden units, whose mean is the base reward corrected by a network.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2}, \qquad
              \mu = r_0 + g\,\bigl(a^\top \tanh(V \hat e + v) + a_0\bigr)

    What a user would try first, a small network added to the reward, as an energy score: saved, served and asked for
    p(r | e) like every other. It is the Boltzmann machine with deep fields and M = 0. With the preference objective it
    is Thurstone's (1927) model of comparative judgement, its probit in place of Bradley and Terry's logistic function.

    Args:
        dim: embedding size D.
        anchored: whether mu contains the base reward r0.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        members: K networks of which this is the geometric mean.
        deep: units of the network's hidden layer; 0 for a correction that is linear in e.
        strength: share of the correction that is applied, 0 to 1.
    """

    fit_settings: ClassVar[FitSettings] = FitSettings(
        training=TrainingSettings(epochs=5, batch_pairs=128, learning_rate=3e-4, weight_decay=1e-2)
    )

    def __init__(
        self,
        dim: int,
        anchored: bool = True,
        gate_rank: GateRank | None = None,
        members: int = 1,
        deep: int = 128,
        strength: float = 1.0,
    ) -> None:
        super().__init__(dim, 0, 1, anchored, 0.0, gate_rank, members, deep, strength)

    @override
    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in super().settings().items() if key not in ("hidden", "coupling")}

    @override
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        return reward.new_zeros(()).expand(len(clamped.mean), reward.shape[1])

    @override
    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        precision = self.tau.pow(-2)
        return lambda reward: Slope((clamped.mean - reward) * precision, -precision.expand(len(reward)))

    @override
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return clamped.mean

    @override
    def expected(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return clamped.mean

    @override
    def log_preference_of(self, clamped: Clamped) -> Float[Tensor, " pairs"]:
        chosen, rejected = clamped.mean.chunk(2)
        log_probability: Tensor = torch.special.log_ndtr((chosen - rejected) / (math.sqrt(2) * self.tau))
        return log_probability.clamp_min(math.log(SMALLEST_PROBABILITY))
