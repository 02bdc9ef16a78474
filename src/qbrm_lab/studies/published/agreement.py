"""Ours and the published code on the same features, split and seed, over deviation of the rewards and start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.data.pairs import Batch, PairData
from qbrm.energies.ebrm import SUPPORT
from qbrm.evaluation import PromptBootstrap
from qbrm.refinement import refine
from qbrm_lab.methods.base import Task
from qbrm_lab.studies.published.code import PublishedCode, same_weights
from qbrm_lab.studies.published.features import right, share
from qbrm_lab.studies.published.rows import (
    OURS,
    PUBLISHED,
    RESTARTS,
    AgreementRow,
    DifferenceRow,
    SameWeights,
)
from qbrm_lab.studies.published.scaled import FROM_BASE, HYBRID, STARTS, EBRMInUnits, RestartsAlone, ScaledEBRM

CLOSE = 1e-3
COMPARED_SAMPLES = 16


@dataclass(frozen=True)
class Arm:
    """One seed's rewards by one code: how many responses were restarted, and one or zero for every test pair."""

    deviation: float
    start: str
    code: str
    restarted: float
    right: list[int]


@dataclass(frozen=True)
class Agreement:
    """One seed: the base's test pairs, all arms, what the same weights give, and training pairs after filtering."""

    base: list[int]
    arms: list[Arm]
    same_weights: list[SameWeights]
    agreed_pairs: int


def agreement_of(task: Task, test: PairData, methods: Sequence[EBRMInUnits], code: PublishedCode | None) -> Agreement:
    """Train and refine with both codes at every deviation; without the published one, with ours alone."""
    arms, compared = list[Arm](), list[SameWeights]()
    filtered = task.pairs.without_conflicts()
    assert isinstance(filtered, PairData)  # a study has its features in memory
    for method in methods:
        score = method.score_for(task).score
        arms += _ours(score, task, test)
        arms.append(_restarts(score, task, test))
        if code is not None:
            pairs = _in_units(score, filtered)
            model = code.train(pairs, method.noise_samples, method.epochs, task.seed)
            arms += _published(code, model, score, task, test)
            compared.append(_compared(code, model, score, test, task.seed))
    return Agreement(right(test, test.reward), arms, compared, filtered.n_pairs)


def _in_units(score: ScaledEBRM, pairs: PairData) -> PairData:
    """The embeddings that the score reads, and rewards in the units that it sees."""
    return pairs._replace(embedding=pairs.embedding[:, : score.reads], reward=score.to_standard(pairs.reward))


def _ours(score: ScaledEBRM, task: Task, test: PairData) -> Iterator[Arm]:
    rows = test.rows()
    for start, ascent in STARTS.items():
        refined = refine(score, test.embedding[rows], test.reward[rows], ascent, seed=task.seed)
        yield _arm(score, start, OURS, test, refined)


def _restarts(score: ScaledEBRM, task: Task, test: PairData) -> Arm:
    rows = test.rows()
    fitted = RestartsAlone(RESTARTS, score.deviation).fit(task)
    return _arm(score, HYBRID, RESTARTS, test, fitted.rewards(task.features.rows(rows)))


def _published(code: PublishedCode, model: nn.Module, score: ScaledEBRM, task: Task, test: PairData) -> Iterator[Arm]:
    rows, seen = test.rows(), _in_units(score, test)
    for start in STARTS:
        refined = code.refined(model, seen.embedding[rows], seen.reward[rows], start == HYBRID, task.seed)
        yield _arm(score, start, PUBLISHED, test, refined)


def _arm(score: ScaledEBRM, start: str, code: str, test: PairData, refined: Float[Tensor, " rows"]) -> Arm:
    rows = test.rows()
    beyond = score.to_standard(test.reward[rows]).abs() > STARTS[start].keep_within
    reward = torch.full_like(test.reward, torch.nan)
    reward[rows] = refined.float()
    return Arm(score.deviation, start, code, beyond.double().mean().item(), right(test, reward))


def _compared(code: PublishedCode, model: nn.Module, score: ScaledEBRM, test: PairData, seed: int) -> SameWeights:
    """Put the published weights into our network; without dropout, nothing is random but the noise that both share."""
    seen, rows = _in_units(score, test), test.rows()
    embedding, reward = seen.embedding[rows], seen.reward[rows]
    ours, generator = same_weights(model, embedding.shape[1]), torch.Generator().manual_seed(seed)
    anywhere = torch.empty_like(reward).uniform_(-SUPPORT, SUPPORT, generator=generator)
    value = code.value(model, embedding, anywhere)
    loss, objective = code.loss(model, embedding, reward, COMPARED_SAMPLES, seed)
    (first, second), (first_reward, second_reward) = embedding.tensor_split(2), reward.tensor_split(2)
    with torch.no_grad():
        our_value = ours(embedding, reward, anywhere)
        our_loss = float(objective(ours, Batch(first, first_reward, second, second_reward), generator))
    refined = refine(ours, embedding, reward, STARTS[FROM_BASE], seed=seed)
    apart = (refined - code.refined(model, embedding, reward, hybrid=False, seed=seed)).abs()
    return SameWeights(
        deviation=score.deviation,
        value=float((our_value - value).abs().max()),
        value_size=float(value.abs().max()),
        loss=loss,
        loss_difference=our_loss - loss,
        refined=(apart < CLOSE).double().mean().item(),
        refined_difference=float(apart.max()),
    )


def agreement_rows(
    seeds: Sequence[Agreement], bootstrap: PromptBootstrap
) -> tuple[list[AgreementRow], list[DifferenceRow]]:
    """Means over seeds, which share their test pairs."""
    base = np.array([seed.base for seed in seeds])
    values = {
        (arm.deviation, arm.start, arm.code): np.array([seed.arms[number].right for seed in seeds])
        for number, arm in enumerate(seeds[0].arms)
    }
    restarted = {
        (arm.deviation, arm.start, arm.code): float(np.mean([seed.arms[number].restarted for seed in seeds]))
        for number, arm in enumerate(seeds[0].arms)
    }
    rows = [
        AgreementRow(
            deviation=deviation,
            start=start,
            code=code,
            restarted=restarted[deviation, start, code],
            accuracy=share(bootstrap, value),
            over_base=share(bootstrap, value - base),
        )
        for (deviation, start, code), value in values.items()
    ]
    differences = [
        DifferenceRow(
            deviation=deviation,
            start=start,
            difference=share(bootstrap, values[deviation, start, OURS] - value),
        )
        for (deviation, start, code), value in values.items()
        if code == PUBLISHED
    ]
    return rows, differences
