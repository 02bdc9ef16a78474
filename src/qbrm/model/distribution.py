"""p(r | e) of responses, and its mean, mode, deviation and quantiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from qbrm.energies.candidates import CandidateMachine, Candidates
from qbrm.energies.density import Density, pessimistic, probability_greater
from qbrm.errors import InputError


class RewardCurves(NamedTuple):
    """p(r | e) of n responses, per unit of reward, at equally spaced rewards in the reward model's units, for plots."""

    reward: Float[Tensor, "n nodes"]
    density: Float[Tensor, "n nodes"]


class CandidateChoice(NamedTuple):
    """The best of the candidates for one prompt.

    Attributes:
        best: number of the one with the greatest reward; the first of several.
        rewards: refined reward of each in its set, in the reward model's units.
        good: probability that each is good, the marginal of its spin; None without a machine across candidates.
    """

    best: int
    rewards: Float64[np.ndarray, " n"]
    good: Float64[np.ndarray, " n"] | None


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
        candidates: the responses as candidates of one prompt, if the model has a machine across candidates.
        machine: that machine.
    """

    base: Float[Tensor, " n"]
    refined: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    mode: Float[Tensor, " n"]
    std: Float[Tensor, " n"]
    quantiles: dict[float, Float[Tensor, " n"]]
    standard: Density
    curves: RewardCurves
    candidates: Candidates | None = None
    machine: CandidateMachine | None = None

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
            candidates=None if self.candidates is None else self.candidates.rows(rows),
            machine=self.machine,
        )

    def pessimistic(self, beta: float) -> Float[Tensor, " n"]:
        """-beta log E exp(-r / beta): the mean for large beta, the least reward that is not ruled out for small beta.

        Args:
            beta: in the reward model's units.

        Raises:
            ValueError: if beta is not a positive number.
        """
        return pessimistic(self.standard.mass, self.curves.reward, beta)

    def choose(self) -> CandidateChoice:
        """The best of these responses, all to one prompt.

        Raises:
            InputError: if there is none, or the machine across candidates fails on them.
        """
        if not len(self.refined):
            raise InputError("no responses to choose from; expected one or more.")
        if self.machine is None or self.candidates is None:
            rewards = self.refined.double().cpu().numpy()
            return CandidateChoice(int(rewards.argmax()), rewards, None)
        judged = self.machine.judge(self.candidates)
        return CandidateChoice(int(judged.reward.argmax()), judged.reward.numpy(), judged.good.numpy())

    def preferences(self) -> Float[Tensor, "n n"]:
        """P(r_i > r_j) for every two responses i and j; one half on the diagonal."""
        n = len(self.base)
        wins = self.base.new_full((n, n), 0.5)
        for i in range(n - 1):
            one, others = self.standard.rows(slice(i, i + 1)), self.standard.rows(slice(i + 1, n))
            wins[i, i + 1 :] = probability_greater(one, others)
            wins[i + 1 :, i] = 1 - wins[i, i + 1 :]
        return wins
