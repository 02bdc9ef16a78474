"""Verdicts over the base on the pairs of a test, by the code of `qbrm fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from qbrm.evaluation.verdict import Predictions, compare_with_base
from qbrm.selection.cross_validation import tempered_base
from qbrm_lab.comparison.evaluate import EvaluationSet, Label, PartOfTest
from qbrm_lab.evaluation.outcomes import Outcomes
from qbrm_lab.methods.base import Fitted, Task, base_reward, bradley_terry
from qbrm_lab.methods.energy import density_preference
from qbrm_lab.methods.reference import Length
from qbrm_lab.results.verdicts import VerdictRow

BASE, TEMPERED, LENGTH = "base", "base:tempered", "length"

OfSeeds = Sequence[Sequence[Outcomes]]
"""Outcomes by seed and, within each, by evaluation set."""


class JudgedPairs(NamedTuple):
    """The pairs of one part of a test that verdicts are about: those of all its sets, each once.

    Attributes:
        part: the test, or a domain of it.
        sets: places of its evaluation sets among all.
        kept: places of the pairs among those of these sets, one set after the other.
        prompt: number of each pair's prompt.
        seed: of the resampling.
    """

    part: PartOfTest
    sets: tuple[int, ...]
    kept: Int[np.ndarray, " pairs"]
    prompt: Int[np.ndarray, " pairs"]
    seed: int


def judged_pairs(tests: Sequence[EvaluationSet], prompt: Int[np.ndarray, " responses"], seed: int) -> list[JudgedPairs]:
    """The pairs of each part that has any, as :func:`~qbrm.preferences.training_pairs` would count them.

    Args:
        tests: all evaluation sets.
        prompt: number of the prompt that each response answers.
        seed: of the resampling.
    """
    parts = [_of_part(part, tests, prompt, seed) for part in dict.fromkeys(test.part for test in tests)]
    return [pairs for pairs in parts if len(pairs.kept)]


def references(task: Task) -> dict[str, Fitted]:
    """What every verdict compares with, whether the comparison has it as a method or not; nothing is trained.

    The tempered base is that of `qbrm fit`, a Gaussian around each reward: next to the logistic function of the method
    ``base:tempered``, an energy score that learned nothing would differ a little in log-loss.
    """
    tempered = tempered_base(task.validation, task.validation.reward.device)
    return {
        BASE: Fitted(base_reward, bradley_terry),
        TEMPERED: Fitted(base_reward, density_preference(tempered)),
        LENGTH: Length().fit(task),
    }


def verdict_row(label: Label, pairs: JudgedPairs, method: OfSeeds, references: Mapping[str, OfSeeds]) -> VerdictRow:
    """Judge one method against the base, paired by prompt and seed.

    Args:
        label: scenario and method.
        pairs: of the part of the test.
        method: its outcomes.
        references: outcomes of what :func:`references` gives, by name.
    """
    known = {name: _predictions(pairs, of_seeds) for name, of_seeds in references.items()}
    verdict = compare_with_base(
        label["method"],
        1.0,
        pairs.prompt,
        known[BASE],
        known[TEMPERED],
        _predictions(pairs, method),
        {},
        length=known[LENGTH].margin[0],
        seed=pairs.seed,
    )
    place = {"test": str(pairs.part), "domain": pairs.part.domain}
    return VerdictRow.of({**label, **place}, verdict, len(method))


def _of_part(
    part: PartOfTest, tests: Sequence[EvaluationSet], prompt: Int[np.ndarray, " responses"], seed: int
) -> JudgedPairs:
    sets = tuple(place for place, test in enumerate(tests) if test.part == part)
    items = [tests[place].items for place in sets]
    chosen = np.concatenate([of_set.pair_chosen for of_set in items])
    rejected = np.concatenate([of_set.pair_rejected for of_set in items])
    _, first = np.unique(np.stack([chosen, rejected]), axis=1, return_index=True)
    kept = np.sort(first[chosen[first] != rejected[first]])
    return JudgedPairs(part, sets, kept, prompt[chosen[kept]], seed)


def _predictions(pairs: JudgedPairs, of_seeds: OfSeeds) -> Predictions:
    """A row for each seed."""
    chosen = [[of_tests[place] for place in pairs.sets] for of_tests in of_seeds]
    margins = [[outcome.margin for outcome in of_seed] for of_seed in chosen]
    claims = [[outcome.log_probability for outcome in of_seed] for of_seed in chosen]
    margin, log_probability = (_rows(pairs, values) for values in (margins, claims))
    assert margin is not None
    return Predictions(margin, log_probability)


def _rows(
    pairs: JudgedPairs, values: Sequence[Sequence[Float64[np.ndarray, " some"] | None]]
) -> Float64[np.ndarray, "seeds pairs"] | None:
    """Values of the pairs by seed, from those by seed and set; None if any are missing."""
    known = [[of_set for of_set in of_seed if of_set is not None] for of_seed in values]
    if any(len(of_seed) < len(pairs.sets) for of_seed in known):
        return None
    return np.stack([np.concatenate(of_seed)[pairs.kept] for of_seed in known])
