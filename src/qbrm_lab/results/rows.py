"""The rows of every table that a comparison makes; accuracies are fractions.

`test` names the test's source, and the domain where the row is about one; `domain` is that domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SetName = Literal["pairwise", "bon"]
Score = Literal["accuracy", "ci_low", "ci_high", "nll", "ece"]
Stage = Literal["train", "refine"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What sampling the hidden spins leaves uncertain: effective states per response, and standard errors."""

    effective_samples: float
    accuracy_error: float
    nll_error: float
    ece_error: float


@dataclass(frozen=True, kw_only=True)
class OfMethod:
    """About one method in one scenario."""

    scenario: str
    method: str


@dataclass(frozen=True, kw_only=True)
class OfSeed(OfMethod):
    """About one seed."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class OfSet:
    """About one set of a test, or of a domain of it."""

    test: str
    domain: str | None = None
    set: SetName


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy with its interval, log-loss and calibration error of `n` decisions."""

    category: str
    n: int
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    nll: float | None
    ece: float | None
    sampling: Sampling | None = None


@dataclass(frozen=True, kw_only=True)
class ResultRow(Scores, OfSet, OfSeed):
    """One method, seed, test and category; accuracies are fractions."""


@dataclass(frozen=True, kw_only=True)
class SummaryRow(Scores, OfSet, OfMethod):
    """The mean over seeds; its interval is a bootstrap over prompts."""

    seeds: int


@dataclass(frozen=True, kw_only=True)
class Difference(OfSet, OfMethod):
    """Accuracy of a method minus that of a reference; its interval is a paired bootstrap over prompts."""

    reference: str
    category: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    sampling_error: float | None = None


# What sums leave behind of differences that cancel: a difference this small is rounding.
CANCELLED = 1e-12


def is_above(row: Difference | None) -> bool:
    """Whether a difference is above zero beyond its interval."""
    return row is not None and row.ci_low is not None and row.ci_low > CANCELLED


def is_below(row: Difference | None) -> bool:
    """Whether a difference is below zero beyond its interval."""
    return row is not None and row.ci_high is not None and row.ci_high < -CANCELLED


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that a stage took for a number of examples."""

    method: str
    seed: int
    stage: Stage
    seconds: float
    examples: int
    scenario: str | None = None


@dataclass(frozen=True, kw_only=True)
class Epoch(OfSeed):
    """Training after an epoch; epoch 0 is before training and has no loss.

    The last five are for scores whose hidden spins are sampled.
    """

    epoch: int
    loss: float | None
    validation_loss: float | None
    validation_pairwise: float | None
    validation_bon: float | None
    objective: str | None = None
    effective_samples: float | None = None
    monte_carlo_error: float | None = None
    effective_beta: float | None = None
    residual: float | None = None
    distortion: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin(OfSet, OfMethod):
    """Decisions of similar confidence and how many of them were right."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, kw_only=True)
class AreaDifference:
    """Area of a method minus that of a reference; its interval is a paired bootstrap over prompts."""

    reference: str
    difference: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class RiskCoverage(OfSet, OfMethod):
    """Accuracy when only the most certain share of the pairs is decided; means over seeds.

    The area is that under the error rate, its interval a bootstrap over prompts, its excess what an oracle would save.
    """

    seeds: int
    n: int
    aurc: float
    ci_low: float
    ci_high: float
    excess: float
    differences: list[AreaDifference]
    coverage: list[float]
    accuracy: list[float]


@dataclass(frozen=True, kw_only=True)
class Deviation(OfSet, OfMethod):
    """Error rate of pairs in bins of the predicted deviation of their difference of rewards; means over seeds.

    The AUROC is the probability that a wrong decision has the greater deviation than a right one, its interval a
    bootstrap over prompts.
    """

    seeds: int
    n: int
    auroc: float | None
    ci_low: float | None
    ci_high: float | None
    deviation: list[float]
    error: list[float]


@dataclass(frozen=True, kw_only=True)
class ResponseDensity:
    """p(r given e) of one response on a grid of rewards."""

    label: Literal["chosen", "rejected"]
    base_reward: float
    refined_reward: float
    reward: list[float]
    density: list[float]


@dataclass(frozen=True, kw_only=True)
class DensityExample(OfMethod):
    """The densities of one prompt's responses and the probability that the chosen one is better."""

    test: str
    domain: str | None = None
    seed: int
    probability: float
    responses: list[ResponseDensity]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What was trained or tested on."""

    name: str
    role: Literal["train", "test"]
    prompts: int
    pairs: int
    categories: int
    pairwise: int
    bon: int
