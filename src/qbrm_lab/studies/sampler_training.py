"""One training against the clock: how log-loss falls with processor time and with the problems that were sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import Batch, PairData
from qbrm.energies import ENERGY_SCORES, CoupledBoltzmannMachine, EnergyScore, build_score
from qbrm.fitting.fit import untrained
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.fitting.trainer import train, validation_loss
from qbrm.samplers import SAMPLERS, Sampler, kaiwu_gibbs

OBJECTIVE = PreferenceLikelihood()
CLOSED_FORM, EXACT_SUM = "closed form", "sum over all states"
TRAINING_SAMPLES = 64
STEPS_APART = 5  # between two looks at a training
MOST_SUMMED = 12  # hidden spins over which log-loss is summed; beyond, the referee is Gibbs sampling
FEWEST_STEPS = 20  # a sampler that would not come so far within the budget is not trained with
TRIED_PROBLEMS = 4
BITS = (4, 6, 8, 10)

SAMPLED: dict[str, Callable[[], Sampler]] = {
    **{name: SAMPLERS[name] for name in ("gibbs", "annealing", "openjij", "bifurcation")},
    **{f"kaiwu-gibbs, {bits} bits": partial(kaiwu_gibbs, bits, TRAINING_SAMPLES) for bits in BITS},
}


class Variant(NamedTuple):
    """A machine of one size, and how its hidden units are summed over: in closed form, exactly, or by a sampler."""

    means: str
    hidden: int

    @property
    def score(self) -> str:
        """``rbm`` has a closed form; ``qbm`` has couplings too."""
        return "rbm" if self.means == CLOSED_FORM else "qbm"


class Parts(NamedTuple):
    """Pairs of one seed, all over the same responses."""

    training: PairData
    validation: PairData
    test: PairData


@dataclass(frozen=True)
class Look:
    """What a training had come to: steps, problems handed to the sampler, processor seconds, validation log-loss."""

    steps: int
    problems: int
    seconds: float
    nll: float


@dataclass(frozen=True)
class Trained:
    """One training.

    Attributes:
        looks: every few steps, from the untrained machine on; empty if the budget is too small for 20 steps.
        cut: whether the budget ended it.
        problem_seconds: processor time for sampling one problem, where there is a sampler.
        right: whether each test pair is decided right, by the look with the best validation log-loss.
        nll: log-loss of each test pair.
    """

    looks: list[Look]
    cut: bool
    problem_seconds: float | None
    right: list[int]
    nll: list[float]


class _BudgetSpentError(Exception):
    """Ends a training whose processor time is used up."""


class _Snapshot(NamedTuple):
    steps: int
    problems: int
    seconds: float
    weights: dict[str, Tensor]


class _Clocked:
    """The objective, which takes the time from step to step and keeps the weights every few steps.

    Only steps count: neither what a look costs, nor validation, which is left out, as looks are judged afterwards.
    """

    def __init__(self, budget: float) -> None:
        self._budget, self._problems, self._pending = budget, 0, 0
        self._steps, self._seconds, self._start = 0, 0.0, 0.0
        self.snapshots: list[_Snapshot] = []

    def __call__(self, model: EnergyScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        self._end_step(model)
        self._pending = 2 * len(batch.chosen)
        self._start = time.process_time()
        return OBJECTIVE(model, batch, generator)

    def validation(self, model: EnergyScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Validate nothing, at the end of an epoch."""
        self._end_step(model)
        return torch.zeros(())

    def _end_step(self, score: EnergyScore) -> None:
        if self._pending:
            self._seconds += time.process_time() - self._start
            self._steps, self._problems, self._pending = self._steps + 1, self._problems + self._pending, 0
        spent = self._seconds > self._budget
        seen = self.snapshots and self.snapshots[-1].steps == self._steps
        if not seen and (spent or self._steps % STEPS_APART == 0):
            weights = {name: value.clone() for name, value in score.state_dict().items()}
            self.snapshots.append(_Snapshot(self._steps, self._problems, self._seconds, weights))
        if spent:
            raise _BudgetSpentError


def train_against_clock(variant: Variant, parts: Parts, epochs: int, budget: float, seed: int) -> Trained:
    """Train a machine for at most `budget` seconds of processor time, and judge what it had come to every few steps.

    All machines of a size are judged alike, whatever drew their hidden spins in training: in closed form, by the sum
    over all states up to 12 spins, and by Gibbs sampling of 256 states beyond.
    """
    make = SAMPLED.get(variant.means)
    settings = replace(ENERGY_SCORES[variant.score].fit_settings.training, epochs=epochs, patience=epochs)
    score = untrained(lambda: _built(variant, parts.training.dim, make), parts.training, seed)
    score.scatter()
    problem_seconds = _problem_seconds(score, parts.training, make) if make else None
    if (problem_seconds or 0.0) * 2 * settings.batch_pairs * FEWEST_STEPS > budget:
        return Trained([], cut=False, problem_seconds=problem_seconds, right=[], nll=[])
    clocked, cut = _Clocked(budget), False
    try:
        train(score, clocked, parts.training, parts.validation, settings, seed, validation_objective=clocked.validation)
    except _BudgetSpentError:
        cut = True
    looks, log_probability = _judged(score.eval(), clocked.snapshots, parts, seed)
    right = log_probability > math.log(0.5)
    return Trained(looks, cut, problem_seconds, right.int().tolist(), (-log_probability).tolist())


def _built(variant: Variant, dim: int, make: Callable[[], Sampler] | None) -> EnergyScore:
    score = build_score(variant.score, dim, hidden=variant.hidden)
    if isinstance(score, CoupledBoltzmannMachine):
        score.sampler, score.samples = make() if make else None, TRAINING_SAMPLES
    return score


@torch.no_grad()
def _problem_seconds(score: Any, pairs: PairData, make: Callable[[], Sampler]) -> float:
    """Processor time for a problem of the untrained machine, after one draw that compiles and finds the temperature."""
    problem = score.hidden_problem(score.clamp(pairs.embedding[:TRIED_PROBLEMS], pairs.reward[:TRIED_PROBLEMS]))
    sampler, generator = make(), torch.Generator().manual_seed(0)
    sampler.sample(problem.fields[:1], problem.couplings, TRAINING_SAMPLES, generator)
    start = time.process_time()
    sampler.sample(problem.fields, problem.couplings, TRAINING_SAMPLES, generator)
    return (time.process_time() - start) / len(problem.fields)


def _judged(
    score: EnergyScore, snapshots: list[_Snapshot], parts: Parts, seed: int
) -> tuple[list[Look], Float[Tensor, " pairs"]]:
    """Validation log-loss of every snapshot, and the log-probability of the test's labels by the best."""
    if isinstance(score, CoupledBoltzmannMachine):
        score.sampler = None if score.hidden <= MOST_SUMMED else SAMPLERS["gibbs"]()
        score.prepare_evaluation(seed)
    looks = []
    for steps, problems, seconds, weights in snapshots:
        score.load_state_dict(weights)
        looks.append(Look(steps, problems, seconds, validation_loss(score, OBJECTIVE, parts.validation, seed)))
    best = min(range(len(looks)), key=lambda index: looks[index].nll)
    score.load_state_dict(snapshots[best].weights)
    return looks, _log_probability(score, parts.test, seed)


@torch.no_grad()
def _log_probability(score: EnergyScore, pairs: PairData, seed: int) -> Float[Tensor, " pairs"]:
    score.reseed(torch.Generator().manual_seed(seed))
    return torch.cat([score.log_preference(batch) for batch in pairs.batches(256)])
