"""p(r | e) of a few test pairs, for the report."""

from __future__ import annotations

from typing import Literal

import torch

from qbrm.energies import Clamped, EnergyScore
from qbrm.energies.density import density, probability_greater
from qbrm_lab.comparison.evaluate import EvaluationSet, Label, Refined
from qbrm_lab.methods.base import Fitted
from qbrm_lab.responses import Features
from qbrm_lab.results.rows import DensityExample, ResponseDensity

EXAMPLES = 4
SPACING = 0.2


@torch.no_grad()
def density_rows(
    label: Label, fitted: Fitted, features: Features, refined: Refined, test: EvaluationSet
) -> list[DensityExample]:
    """Densities of the pairs at evenly spaced places in the test."""
    if fitted.score is None:
        return []
    picks = torch.linspace(0, len(test.items.pair_item) - 1, min(EXAMPLES, len(test.items.pair_item))).long()
    return [_pair(label, fitted.score, features, refined, test, int(pair)) for pair in picks]


def _pair(
    label: Label, score: EnergyScore, features: Features, refined: Refined, test: EvaluationSet, pair: int
) -> DensityExample:
    chosen, rejected = int(test.items.pair_chosen[pair]), int(test.items.pair_rejected[pair])
    coarse = [density(score, _clamp(score, features, row)) for row in (chosen, rejected)]
    probability = float(probability_greater(*coarse))
    curves = [
        _curve("chosen", score, features, refined, chosen),
        _curve("rejected", score, features, refined, rejected),
    ]
    part = test.part
    return DensityExample(**label, test=str(part), domain=part.domain, probability=probability, responses=curves)


def _curve(
    label: Literal["chosen", "rejected"], score: EnergyScore, features: Features, refined: Refined, row: int
) -> ResponseDensity:
    fine = density(score, _clamp(score, features, row), SPACING)
    rewards = score.from_standard(fine.lattice.rewards[0])
    scale = fine.lattice.step * float(score.reward_scale)
    return ResponseDensity(
        label=label,
        base_reward=float(features.reward[row]),
        refined_reward=float(refined.reward[row]),
        reward=rewards.tolist(),
        density=(fine.mass[0] / scale).tolist(),
    )


def _clamp(score: EnergyScore, features: Features, row: int) -> Clamped:
    return score.clamp(features.embedding[row : row + 1], features.reward[row : row + 1])
