"""p(r | e) of a few test pairs, for the report."""

from __future__ import annotations

from typing import Any

import torch

from qbrm.energies import EnergyScore
from qbrm.energies.density import density, probability_greater
from qbrm_lab.comparison.evaluate import EvaluationSet, Refined, Row
from qbrm_lab.methods import Fitted
from qbrm_lab.responses import Features

EXAMPLES = 4
SPACING = 0.2


@torch.no_grad()
def density_rows(label: Row, fitted: Fitted, features: Features, refined: Refined, test: EvaluationSet) -> list[Row]:
    """Densities of the pairs at evenly spaced places in the test."""
    if fitted.score is None:
        return []
    picks = torch.linspace(0, len(test.items.pair_item) - 1, min(EXAMPLES, len(test.items.pair_item))).long()
    return [_pair(label, fitted.score, features, refined, test, int(pair)) for pair in picks]


def _pair(label: Row, score: EnergyScore, features: Features, refined: Refined, test: EvaluationSet, pair: int) -> Row:
    rows = {"chosen": test.items.pair_chosen[pair], "rejected": test.items.pair_rejected[pair]}
    coarse = [density(score, _clamp(score, features, int(row))) for row in rows.values()]
    responses = [{"label": name, **_curve(score, features, refined, int(row))} for name, row in rows.items()]
    probability = float(probability_greater(*coarse))
    return {**label, "test": test.test, "probability": probability, "responses": responses}


def _curve(score: EnergyScore, features: Features, refined: Refined, row: int) -> dict[str, Any]:
    fine = density(score, _clamp(score, features, row), SPACING)
    rewards = score.from_standard(fine.lattice.rewards[0])
    scale = fine.lattice.step * float(score.reward_scale)
    return {
        "base_reward": float(features.reward[row]),
        "refined_reward": float(refined.reward[row]),
        "reward": rewards.tolist(),
        "density": (fine.mass[0] / scale).tolist(),
    }


def _clamp(score: EnergyScore, features: Features, row: int) -> Any:
    return score.clamp(features.embedding[row : row + 1], features.reward[row : row + 1])
