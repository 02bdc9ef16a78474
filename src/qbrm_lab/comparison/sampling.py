"""What sampling the hidden spins leaves uncertain of every number that it touches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import torch

from qbrm.energies import CoupledBoltzmannMachine
from qbrm.evaluation import means
from qbrm_lab.comparison.evaluate import EvaluationSet, outcomes, proper_scores, refine_tests
from qbrm_lab.evaluation.outcomes import Outcomes, Sampling
from qbrm_lab.methods.base import Fitted
from qbrm_lab.responses import Features
from qbrm_lab.results import rows as tables

DRAWS = 4
EXAMPLES = 1024


def with_sampling(
    fitted: Fitted, features: Features, tests: Sequence[EvaluationSet], drawn_first: Sequence[Outcomes]
) -> list[Outcomes]:
    """The outcomes, together with those of three more draws if the method's score is sampled.

    The score keeps the seed that it had.
    """
    score = fitted.score
    if not isinstance(score, CoupledBoltzmannMachine) or score.sampler is None:
        return list(drawn_first)
    rows = torch.from_numpy(np.unique(np.concatenate([test.rows() for test in tests])))[:EXAMPLES]
    drawn = score.monte_carlo(score.clamp(features.embedding[rows], features.reward[rows]))
    seed, redrawn = score.seed, []
    for draw in range(1, DRAWS):
        score.seed = seed + draw
        refined = refine_tests(fitted, features, tests)
        redrawn.append([outcomes(fitted, features, refined, test) for test in tests])
    score.seed = seed
    return [
        outcome._replace(sampling=Sampling(drawn.effective_samples, tuple(others)))
        for outcome, *others in zip(drawn_first, *redrawn, strict=True)
    ]


def sampling_columns(test: EvaluationSet, seeds: Sequence[Outcomes], category: str) -> tables.Sampling | None:
    """Effective samples, and the Monte-Carlo standard errors of accuracy, log-loss and ECE averaged over seeds.

    The errors are standard deviations over independent draws, so they need no model of the sampler. None if nothing was
    sampled.
    """
    effective = [outcome.sampling.effective_samples for outcome in seeds if outcome.sampling is not None]
    if not effective:
        return None
    accuracy = [[means(test.items, draw.correct.astype(float))[category] for draw in _draws(o)] for o in seeds]
    scores = [[proper_scores(test.items, draw.log_probability)[category] for draw in _draws(o)] for o in seeds]
    return tables.Sampling(
        effective_samples=float(np.mean(effective)),
        accuracy_error=_error_of_mean(accuracy),
        nll_error=_error_of_mean([[nll for nll, _ in draws] for draws in scores]),
        ece_error=_error_of_mean([[ece for _, ece in draws] for draws in scores]),
    )


def difference_error(method: Sequence[Outcomes], reference: Sequence[Outcomes]) -> float | None:
    """Monte-Carlo standard error of a difference of mean accuracies; None if neither side was sampled."""
    if all(outcome.sampling is None for outcome in (*method, *reference)):
        return None
    sides = [[[float(draw.correct.mean()) for draw in _draws(o)] for o in seeds] for seeds in (method, reference)]
    return math.hypot(*map(_error_of_mean, sides))


def _draws(outcome: Outcomes) -> tuple[Outcomes, ...]:
    return (outcome, *(outcome.sampling.redrawn if outcome.sampling is not None else ()))


def _error_of_mean(seeds: Sequence[Sequence[float]]) -> float:
    """Standard error of a mean over seeds, from the variance of each seed's draws."""
    variance = [statistics.variance(draws) if len(draws) > 1 else 0.0 for draws in seeds]
    return math.sqrt(sum(variance)) / len(seeds)
