"""What scores and base rewards say of test pairs, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from qbrm.data.pairs import Batch, Pairs
from qbrm.energies import EnergyScore
from qbrm.evaluation.verdict import Predictions
from qbrm.fitting.calibration import margin_temperature
from qbrm.fitting.trainer import moved
from qbrm.refinement import REFINEMENTS, refine

BATCH_PAIRS = 1024

TwoColumns = tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]


def of_score(score: EnergyScore, refinement: str, pairs: Pairs) -> Predictions:
    """Differences of refined rewards, and P(r_chosen > r_rejected) from the score's densities."""

    def predict(batch: Batch) -> TwoColumns:
        batch = moved(batch, score)
        return _margins(score, refinement, batch), score.log_preference(batch)

    return Predictions(*_columns(predict, pairs))


def of_rewards_alone(score: EnergyScore, refinement: str, pairs: Pairs, validation: Pairs) -> Predictions:
    """The same for a score whose density is not one of preferences: a temperature is set on validation pairs."""
    margins = _columns(lambda batch: (_margins(score, refinement, batch), _base_margins(batch)), validation)
    temperature = margin_temperature(*map(torch.from_numpy, margins))

    def predict(batch: Batch) -> TwoColumns:
        margin = _margins(score, refinement, batch)
        return margin, functional.logsigmoid(margin / temperature)

    return Predictions(*_columns(predict, pairs))


def of_base(pairs: Pairs) -> Predictions:
    """The base rewards as they are, with the probabilities of Bradley & Terry (1952)."""
    return Predictions(
        *_columns(lambda batch: (_base_margins(batch), functional.logsigmoid(_base_margins(batch))), pairs)
    )


def _margins(score: EnergyScore, refinement: str, batch: Batch) -> Float[Tensor, " pairs"]:
    chosen, rejected = refine(score, *moved(batch, score).examples(), REFINEMENTS[refinement]).chunk(2)
    return chosen - rejected


def _base_margins(batch: Batch) -> Float[Tensor, " pairs"]:
    return batch.chosen_reward - batch.rejected_reward


@torch.no_grad()
def _columns(
    predict: Callable[[Batch], TwoColumns], pairs: Pairs
) -> tuple[Float64[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    parts = [predict(batch) for batch in pairs.batches(BATCH_PAIRS)]
    first, second = (np.concatenate([part[side].double().cpu().numpy() for part in parts]) for side in (0, 1))
    return first, second
