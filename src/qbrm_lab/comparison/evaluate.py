"""From fitted methods to rows of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64, Int

from qbrm.evaluation import PromptBootstrap, expected_calibration_error, means, reliability
from qbrm_lab.evaluation.outcomes import Items, Outcomes, is_correct
from qbrm_lab.methods.base import Fitted
from qbrm_lab.responses import Features
from qbrm_lab.results.rows import Difference, ReliabilityBin, ResultRow, Sampling, SetName, SummaryRow


class PartOfTest(NamedTuple):
    """A test, or one domain of it: what its categories begin with."""

    source: str
    domain: str | None = None

    def __str__(self) -> str:
        return self.source if self.domain is None else f"{self.source}, {self.domain}"


# Columns that several tables have, such as scenario and method.
Label: TypeAlias = Mapping[str, Any]
SamplingOf: TypeAlias = Callable[[str], Sampling | None]


class EvaluationSet(NamedTuple):
    """One set of one test, ready to be evaluated on; `bootstrap` resamples its prompts for all methods and seeds."""

    part: PartOfTest
    set: SetName
    items: Items
    bootstrap: PromptBootstrap

    @property
    def label(self) -> Label:
        """The columns of a row that name this set."""
        return {"test": str(self.part), "domain": self.part.domain, "set": self.set}

    def rows(self) -> Int[np.ndarray, " responses"]:
        """The responses in it, some more than once."""
        return np.concatenate([self.items.pair_chosen, self.items.pair_rejected])


class Refined(NamedTuple):
    """A method's rewards of the test responses, and what they cost; NaN for responses that are in no test."""

    reward: Float[torch.Tensor, " responses"]
    seconds: float
    examples: int


def refine_tests(method: Fitted, features: Features, tests: Sequence[EvaluationSet]) -> Refined:
    """Refine the rewards of all test responses, each once."""
    rows = torch.from_numpy(np.unique(np.concatenate([test.rows() for test in tests])))
    wanted = features.rows(rows)
    start = time.perf_counter()
    refined = method.rewards(wanted)
    seconds = time.perf_counter() - start
    reward = torch.full((len(features.reward),), torch.nan)
    reward[rows] = refined.detach().float()
    return Refined(reward, seconds, len(rows))


def outcomes(method: Fitted, features: Features, refined: Refined, test: EvaluationSet) -> Outcomes:
    """What the method got right, and how likely it thought it was."""
    correct = is_correct(test.items, refined.reward.numpy())
    chosen, rejected = (torch.from_numpy(rows) for rows in (test.items.pair_chosen, test.items.pair_rejected))
    margin = (refined.reward[chosen] - refined.reward[rejected]).double().numpy()
    if method.log_preference is None:
        return Outcomes(correct, None, margin=margin)
    with torch.no_grad():
        log_probability = method.log_preference(features, refined.reward, chosen, rejected)
    return Outcomes(correct, log_probability.double().numpy(), margin=margin)


def _unsampled(category: str) -> Sampling | None:
    return None


def rows(label: Label, test: EvaluationSet, outcome: Outcomes, sampling: SamplingOf = _unsampled) -> list[ResultRow]:
    """One row per category, one over all items and one for the mean over categories."""
    value = outcome.correct.astype(float)
    accuracy, interval = means(test.items, value), test.bootstrap.intervals(value)
    count = np.bincount(test.items.category, minlength=len(test.items.categories))
    sizes = {"all": len(value), "macro": len(value), **dict(zip(test.items.categories, count.tolist(), strict=True))}
    proper = proper_scores(test.items, outcome.log_probability)
    return [
        ResultRow(
            **label,
            **test.label,
            category=category,
            n=sizes[category],
            accuracy=accuracy[category],
            ci_low=interval[category][0],
            ci_high=interval[category][1],
            nll=proper[category][0] if category in proper else None,
            ece=proper[category][1] if category in proper else None,
            sampling=sampling(category),
        )
        for category in accuracy
    ]


def proper_scores(
    items: Items, log_probability: Float64[np.ndarray, " pairs"] | None
) -> Mapping[str, tuple[float, float]]:
    """Log-loss and calibration error over pairs: by category, over all (``all``), and the mean of both (``macro``)."""
    if log_probability is None:
        return {}
    of_pair = items.category[items.pair_item]
    parts = {name: log_probability[of_pair == index] for index, name in enumerate(items.categories)}
    scores = {name: (-float(part.mean()), expected_calibration_error(part)) for name, part in parts.items()}
    macro = np.mean(list(scores.values()), axis=0)
    overall = (-float(log_probability.mean()), expected_calibration_error(log_probability))
    return {"all": overall, "macro": (float(macro[0]), float(macro[1])), **scores}


def summary(
    label: Label, test: EvaluationSet, seeds: Sequence[Outcomes], sampling: SamplingOf = _unsampled
) -> list[SummaryRow]:
    """Mean over seeds, with the bootstrap interval of that mean over prompts."""
    value = np.mean([outcome.correct for outcome in seeds], axis=0)
    accuracy, interval = means(test.items, value), test.bootstrap.intervals(value)
    proper = [proper_scores(test.items, outcome.log_probability) for outcome in seeds]
    return [
        SummaryRow(
            **label,
            **test.label,
            category=category,
            seeds=len(seeds),
            n=len(value),
            accuracy=accuracy[category],
            ci_low=interval[category][0],
            ci_high=interval[category][1],
            nll=float(np.mean([scores[category][0] for scores in proper])) if all(proper) else None,
            ece=float(np.mean([scores[category][1] for scores in proper])) if all(proper) else None,
            sampling=sampling(category),
        )
        for category in ("all", "macro")
    ]


def difference(
    label: Label,
    test: EvaluationSet,
    method: Sequence[Outcomes],
    reference: Sequence[Outcomes],
    sampling_error: float | None = None,
) -> Difference:
    """Accuracy of a method less that of a reference, paired over prompts and seeds."""
    value = np.mean([a.correct.astype(float) - b.correct for a, b in zip(method, reference, strict=True)], axis=0)
    low, high = test.bootstrap.intervals(value)["all"]
    return Difference(
        **label,
        **test.label,
        category="all",
        difference=float(value.mean()),
        ci_low=low,
        ci_high=high,
        sampling_error=sampling_error,
    )


def reliability_rows(label: Label, test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[ReliabilityBin]:
    """The reliability curve over the pairs of all seeds together."""
    claims = claims_of(seeds)
    bins = zip(*reliability(np.concatenate(claims)), strict=True) if claims else ()
    return [ReliabilityBin(**label, **test.label, confidence=float(c), accuracy=float(a), n=int(n)) for c, a, n in bins]


def claims_of(seeds: Sequence[Outcomes]) -> list[Float64[np.ndarray, " pairs"]]:
    """Each seed's log-probabilities of the pairs, of those that claim any."""
    return [outcome.log_probability for outcome in seeds if outcome.log_probability is not None]
