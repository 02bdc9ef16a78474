"""Rewards drawn from a known machine: the one place where the true reward is there to check intervals against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.energies import EnergyScore, SemiQuantumRBM
from qbrm.energies.density import density
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import OBJECTIVES
from qbrm_lab.evaluation import Coverage, interval_coverage
from qbrm_lab.results.study_rows import CoverageRow

DIM, HIDDEN, TAU = 4, 4, 0.5
RESPONSES = 3000, 600, 4000
LEVELS = (0.5, 0.8, 0.9, 0.95)
TRAINING = TrainingSettings(epochs=15, batch_pairs=64, learning_rate=2e-2, weight_decay=1e-3, patience=15)
FINE_SPACING = 0.2


class Simulated(NamedTuple):
    """Responses whose true rewards are known.

    Attributes:
        embedding: standard normal.
        base_reward: standard normal r0.
        reward: the true rewards, each drawn from the machine's p(r | e).
    """

    embedding: Float[Tensor, "n dim"]
    base_reward: Float[Tensor, " n"]
    reward: Float[Tensor, " n"]


def known_machine(seed: int, anchored: bool) -> SemiQuantumRBM:
    """A semi-quantum machine with random fields, whose p(r | e) changes place, width and shape with e.

    Args:
        seed: seeds its fields.
        anchored: whether its rewards follow the base rewards.
    """
    torch.manual_seed(seed)
    machine = SemiQuantumRBM(DIM, hidden=HIDDEN, anchored=anchored)
    with torch.no_grad():
        for parameter in (machine.W, machine.c, machine.a):
            parameter.normal_()
        machine.log_tau.fill_(math.log(TAU))
    return machine.eval()


@torch.no_grad()
def simulate(machine: SemiQuantumRBM, responses: int, seed: int) -> Simulated:
    """Draw responses and their true rewards."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(responses, machine.dim, generator=generator)
    base_reward = torch.randn(responses, generator=generator)
    exact = density(machine, machine.clamp(embedding, base_reward), FINE_SPACING)
    node = torch.multinomial(exact.mass, 1, generator=generator)
    # Anywhere in the node's cell: adds step^2 / 12 to the variance, a three-hundredth of the sharpest feature's.
    place = node + torch.rand(node.shape, generator=generator) - 0.5
    reward = ((exact.lattice.first[:, None] + place) * exact.lattice.step)[:, 0]
    return Simulated(embedding, base_reward, machine.from_standard(reward))


def fit_to_rewards(train_on: Simulated, validation: Simulated, seed: int) -> SemiQuantumRBM:
    """Fit a machine to the true rewards by exact likelihood; it never sees the base rewards."""
    score = _untrained(train_on.reward, train_on, seed, anchored=False)
    pairs, held_out = (_preferences(data)._replace(reward=data.reward) for data in (train_on, validation))
    train(score, OBJECTIVES["likelihood"](), pairs, held_out, TRAINING, seed)
    return score


def fit_to_preferences(train_on: Simulated, validation: Simulated, seed: int) -> SemiQuantumRBM:
    """Fit a machine to which of two responses has the greater reward; the rewards themselves it never sees."""
    score = _untrained(train_on.base_reward, train_on, seed, anchored=True)
    train(score, OBJECTIVES["preference"](), _preferences(train_on), _preferences(validation), TRAINING, seed)
    return score


@torch.no_grad()
def true_units(score: EnergyScore, data: Simulated) -> tuple[float, float]:
    """Slope and intercept that lead from the score's E[r | e] to the true rewards, by least squares.

    Preferences leave the unit and the zero of rewards to convention: P(a > b) stays the same when all rewards are
    shifted, and when all of them are scaled together with their deviations.
    """
    mean = score.from_standard(density(score, score.clamp(data.embedding, data.base_reward)).mean)
    design = torch.stack([mean, torch.ones_like(mean)], 1)
    slope, intercept = torch.linalg.lstsq(design, data.reward[:, None]).solution[:, 0].tolist()
    return slope, intercept


@torch.no_grad()
def quantile_coverage(
    score: EnergyScore,
    data: Simulated,
    levels: Sequence[float] = LEVELS,
    units: tuple[float, float] = (1.0, 0.0),
) -> dict[float, Coverage]:
    """How often the central intervals of p(r | e) contain the true reward, by the probability that they claim.

    Args:
        score: whose intervals.
        data: responses that it was not fitted to.
        levels: probabilities claimed.
        units: slope and intercept that lead from the score's rewards to true ones.
    """
    slope, intercept = units
    claimed = density(score, score.clamp(data.embedding, data.base_reward), FINE_SPACING)
    covered = {}
    for level in levels:
        ends = (score.from_standard(claimed.quantile((1 + side * level) / 2)) for side in (-1, 1))
        low, high = (slope * end.numpy() + intercept for end in ends)
        covered[level] = interval_coverage(data.reward.numpy(), low, high)
    return covered


def coverage_rows(seed: int) -> list[CoverageRow]:
    """Coverage of the intervals of machines fitted to simulated rewards and to simulated preferences.

    Both are of the true machine's family; what preferences leave to convention is set by `true_units` of the training
    responses.

    Returns:
        One row per way of fitting and probability claimed.
    """
    rows: list[CoverageRow] = []
    for fitted_to, fit in (("rewards", fit_to_rewards), ("preferences", fit_to_preferences)):
        machine = known_machine(seed, anchored=fitted_to == "preferences")
        training, validation, test = (simulate(machine, n, 3 * seed + part) for part, n in enumerate(RESPONSES))
        score = fit(training, validation, seed)
        units = true_units(score, training) if fitted_to == "preferences" else (1.0, 0.0)
        rows += [
            CoverageRow(seed=seed, fitted_to=fitted_to, level=level, coverage=covered.share, error=covered.error)
            for level, covered in quantile_coverage(score, test, units=units).items()
        ]
    return rows


def _untrained(reward: Float[Tensor, " n"], data: Simulated, seed: int, anchored: bool) -> SemiQuantumRBM:
    torch.manual_seed(seed)
    score = SemiQuantumRBM(DIM, hidden=HIDDEN, anchored=anchored)
    score.standardise(data.embedding, reward)
    return score


def _preferences(data: Simulated) -> PairData:
    """Neighbours compared: the one with the greater reward is chosen."""
    rows = torch.arange(len(data.reward) // 2 * 2).view(-1, 2)
    chosen = data.reward[rows].argmax(1, keepdim=True)
    return PairData(data.embedding, data.base_reward, rows.gather(1, chosen)[:, 0], rows.gather(1, 1 - chosen)[:, 0])
