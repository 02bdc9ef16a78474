"""p(r | e) of responses, and its mean, mode, deviation and quantiles."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from qbrm.energies.density import Density, pessimistic, probability_greater


class RewardCurves(NamedTuple):
    """p(r | e) of n responses, per unit of reward, at equally spaced rewards in the reward model's units, for plots."""

    reward: Float[Tensor, "n nodes"]
    density: Float[Tensor, "n nodes"]


class RewardDistribution(NamedTuple):
    """p(r | e) of n responses, in the reward model's units.

    Attributes:
        base: base rewards r0.
        refined: refined rewards r*, by the model's own refinement.
        mean: E[r | e].
        mode: the reward with the greatest density.
        std: standard deviation.
        quantiles: by probability.
        standard: the whole distribution, in standardised units.
        curves: the whole distribution, for plots.
    """

    base: Float[Tensor, " n"]
    refined: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    mode: Float[Tensor, " n"]
    std: Float[Tensor, " n"]
    quantiles: dict[float, Float[Tensor, " n"]]
    standard: Density
    curves: RewardCurves

    def rows(self, rows: slice) -> RewardDistribution:
        """Some of the responses."""
        return RewardDistribution(
            base=self.base[rows],
            refined=self.refined[rows],
            mean=self.mean[rows],
            mode=self.mode[rows],
            std=self.std[rows],
            quantiles={level: quantile[rows] for level, quantile in self.quantiles.items()},
            standard=self.standard.rows(rows),
            curves=RewardCurves(self.curves.reward[rows], self.curves.density[rows]),
        )

    def pessimistic(self, beta: float) -> Float[Tensor, " n"]:
        """-beta log E exp(-r / beta): the mean for large beta, the least reward that is not ruled out for small beta.

        Args:
            beta: in the reward model's units.

        Raises:
            ValueError: if beta is not a positive number.
        """
        return pessimistic(self.standard.mass, self.curves.reward, beta)

    def preferences(self) -> Float[Tensor, "n n"]:
        """P(r_i > r_j) for every two responses i and j; one half on the diagonal."""
        n = len(self.base)
        wins = self.base.new_full((n, n), 0.5)
        for i in range(n - 1):
            one, others = self.standard.rows(slice(i, i + 1)), self.standard.rows(slice(i + 1, n))
            wins[i, i + 1 :] = probability_greater(one, others)
            wins[i + 1 :, i] = 1 - wins[i, i + 1 :]
        return wins
