"""Calibration of the model's temperature after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from qbrm.data.pairs import Batch, PairData, Pairs
from qbrm.fitting.objectives import Objective
from qbrm.fitting.trainable import Clamped, TrainableScore
from qbrm.fitting.trainer import VALIDATION_BATCH, epoch_generator, moved, validation_loss

BASE_PAIRS = 40
MOST_PAIRS = 4096
# Rounding of a sum of float32 products; also bounds what one mislabelled pair can cost, at 16 nats.
SMALLEST_PROBABILITY = 1e-7


def margin_temperature(margin: Float[Tensor, " pairs"], base_margin: Float[Tensor, " pairs"]) -> float:
    r"""The T of sigma((r_chosen - r_rejected) / T) that makes validation preferences likeliest.

    Temperature scaling (Guo et al., 2017, arXiv 1706.04599): what tau is to the Boltzmann scores, for rewards that come
    without a density. As there, the base rewards' claims count as some more pairs (see :class:`CalibrationLoss`).

    Args:
        margin: r_chosen - r_rejected of validation pairs.
        base_margin: the same of the base rewards.
    """
    margin, claimed = margin.double(), torch.sigmoid(base_margin.double())
    size = math.log(float(margin.abs().mean().clamp_min(1e-6)))
    right, wrong = 1 + BASE_PAIRS / len(margin) * claimed, BASE_PAIRS / len(margin) * (1 - claimed)

    def loss(log_temperature: float) -> float:
        tempered = margin / math.exp(log_temperature)
        return -float((right * functional.logsigmoid(tempered) + wrong * functional.logsigmoid(-tempered)).mean())

    best = minimize_scalar(loss, bounds=(size - 4, size + 5), method="bounded", options={"xatol": 1e-3})
    return math.exp(best.x)


class ClampedBatch(NamedTuple):
    """Held-out pairs as a score sees them whatever its temperature is.

    Attributes:
        clamped: the chosen responses, then the rejected ones.
        margin: base reward of the chosen response less that of the rejected one.
    """

    clamped: Clamped
    margin: Float[Tensor, " pairs"]


class CalibrationLoss:
    r"""Negative log-probability of validation preferences, and of a few more, labelled as the base rewards claim.

    .. math:: L = -\frac1n \sum_i \Bigl( \log P_i
              + \frac{m}{n} \bigl( q_i \log P_i + (1 - q_i) \log (1 - P_i) \bigr) \Bigr),
              \qquad q_i = \sigma(r_{0,+} - r_{0,-})

    P_i is the score's probability of pair i of n. Ten pairs that happen to be right would call for a temperature of
    zero; m pairs' worth of what the base model claims stand against that, and are lost among many pairs.

    Args:
        pairs: n.
    """

    def __init__(self, pairs: int) -> None:
        self._weight = BASE_PAIRS / pairs

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over the pairs of a batch, in nats."""
        model.reseed(generator)
        return self.of(model.log_preference(batch), batch.chosen_reward - batch.rejected_reward)

    def of(self, right: Float[Tensor, " pairs"], margin: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:
        """The same from log P of each pair and the difference of its base rewards."""
        wrong = (-right.exp()).log1p().clamp_min(math.log(SMALLEST_PROBABILITY))
        claimed = torch.sigmoid(margin)
        return -(right + self._weight * (claimed * right + (1 - claimed) * wrong)).mean()


def calibrate(scores: Sequence[TrainableScore], held_out: Sequence[PairData]) -> None:
    """Multiply every score's temperature by the one factor that makes all held-out pairs together most likely.

    Training alone leaves p(r | e) over-confident. Searches between a tenth and ten times the present temperature, with
    the other parameters as they are. Where there are few preferences, the base rewards' claims count as 40 more; see
    :class:`CalibrationLoss`. Of more than 4,096 pairs, as many random ones are enough for one number.

    Args:
        scores: to calibrate; one, or the members of a committee.
        held_out: for each score, the pairs that it was not trained on.

    Raises:
        TypeError: if a score has no temperature.
    """
    trained = [score.log_temperature for score in scores]
    share = min(1.0, MOST_PAIRS / sum(pairs.n_pairs for pairs in held_out))
    held_out = [pairs.sample(math.ceil(share * pairs.n_pairs)) for pairs in held_out]
    total = sum(pairs.n_pairs for pairs in held_out)
    objective = CalibrationLoss(total)
    parts = [clamped_batches(score.eval(), pairs) for score, pairs in zip(scores, held_out, strict=True)]

    def loss(log_factor: float) -> float:
        summed = 0.0
        for score, batches, log_temperature in zip(scores, parts, trained, strict=True):
            score.set_log_temperature((log_temperature or 0.0) + log_factor)
            summed += _summed_loss(score, objective, batches)
        return summed / total

    # A sampled loss is neither cheap nor exact enough for more than a few evaluations.
    tolerance = 0.05 if any(score.draws for score in scores) else 0.01
    best = minimize_scalar(loss, bounds=(-math.log(10), math.log(10)), method="bounded", options={"xatol": tolerance})
    loss(min((float(best.x), 0.0), key=loss))


@torch.no_grad()
def clamped_batches(score: TrainableScore, pairs: Pairs) -> list[ClampedBatch]:
    """All pairs with their embeddings read once, for many evaluations at different temperatures."""
    batches = (moved(batch, score) for batch in pairs.batches(VALIDATION_BATCH))
    return [
        ClampedBatch(
            score.clamp(*batch.examples())._replace(row=batch.row), batch.chosen_reward - batch.rejected_reward
        )
        for batch in batches
    ]


@torch.no_grad()
def _summed_loss(score: TrainableScore, objective: CalibrationLoss, batches: Sequence[ClampedBatch]) -> float:
    generator, total = epoch_generator(0, 0), 0.0
    for batch in batches:
        score.reseed(generator)
        total += float(objective.of(score.log_preference_of(batch.clamped), batch.margin)) * len(batch.margin)
    return total


def mean_loss(
    scores: Sequence[TrainableScore], objective: Objective[TrainableScore], held_out: Sequence[Pairs]
) -> float:
    """Mean loss over the pairs of all parts, each judged by the score at its place."""
    total = sum(
        validation_loss(score, objective, pairs, seed=0) * pairs.n_pairs
        for score, pairs in zip(scores, held_out, strict=True)
    )
    return total / sum(pairs.n_pairs for pairs in held_out)
