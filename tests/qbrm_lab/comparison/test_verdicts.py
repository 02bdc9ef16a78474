"""Verdicts over several seeds, and the pairs that they are about."""

from dataclasses import replace

import numpy as np
import pytest

from qbrm.evaluation import PromptBootstrap, expected_calibration_error
from qbrm.evaluation.verdict import Difference, Measures, Predictions, Verdict, compare_with_base
from qbrm_lab.comparison.evaluate import EvaluationSet, PartOfTest
from qbrm_lab.comparison.verdicts import judged_pairs, verdict_row
from qbrm_lab.evaluation.outcomes import Items, Outcomes
from qbrm_lab.results.verdicts import VerdictRow

PAIRS, SEEDS = 60, 3
LABEL = {"scenario": "fresh", "method": "sqrbm"}
PROMPT = np.arange(PAIRS) // 3


def predictions(seed, gain=0.0):
    generator = np.random.default_rng(seed)
    margin = generator.normal(gain, 1, (SEEDS, PAIRS))
    return Predictions(margin, -np.logaddexp(0, -margin))


BASE, TEMPERED, REFINED = predictions(0), predictions(1), predictions(2, gain=0.8)


def judged(base, tempered, refined):
    return compare_with_base("sqrbm", 1.0, PROMPT, base, tempered, refined, {}, length=np.ones(PAIRS))


def of_seed(known, seed):
    return Predictions(*(column[seed] for column in known))


def test_a_verdict_over_seeds_is_the_mean_of_their_verdicts():
    together = judged(BASE, TEMPERED, REFINED)
    alone = [judged(*(of_seed(known, seed) for known in (BASE, TEMPERED, REFINED))) for seed in range(SEEDS)]
    assert (together.pairs, together.prompts) == (PAIRS, PAIRS // 3)
    for name in ("base", "tempered", "refined"):
        expected = np.mean([getattr(verdict, name) for verdict in alone], axis=0)
        np.testing.assert_allclose(getattr(together, name), expected)
    for name in ("accuracy", "nll", "over_tempered"):
        means = [getattr(verdict, name).mean for verdict in alone]
        assert getattr(together, name).mean == pytest.approx(np.mean(means))
    assert together.refined.ece == pytest.approx(
        np.mean([expected_calibration_error(row) for row in REFINED.log_probability])
    )


def test_the_same_seed_thrice_tells_no_more_than_once():
    once = [of_seed(known, 0) for known in (BASE, TEMPERED, REFINED)]
    thrice = [Predictions(*(np.tile(column, (3, 1)) for column in known)) for known in once]
    one, three = judged(*once), judged(*thrice)
    assert one.sentence == three.sentence
    for name in ("accuracy", "nll", "over_tempered"):
        np.testing.assert_allclose(getattr(three, name), getattr(one, name))


def evaluation_set(name, chosen, rejected, items=None):
    chosen, rejected = np.array(chosen), np.array(rejected)
    item = np.arange(len(chosen)) if items is None else np.array(items)
    count = item.max() + 1
    found = Items(np.arange(count), np.zeros(count, int), chosen[:count], item, chosen, rejected, int(count), ("all",))
    return EvaluationSet(PartOfTest("made up"), name, found, PromptBootstrap(found))


# Responses 0 to 3 answer prompt 0, the others prompt 1. Pair (0, 1) is in both sets, and 4 is paired with itself.
TESTS = [
    evaluation_set("pairwise", [0, 4, 4], [1, 5, 4]),
    evaluation_set("bon", [0, 0, 0], [1, 2, 3], items=[0, 0, 0]),
]
PROMPT_OF_RESPONSE = np.array([0, 0, 0, 0, 1, 1])


def test_a_pair_in_both_sets_is_judged_once_and_one_of_equal_texts_never():
    (pairs,) = judged_pairs(TESTS, PROMPT_OF_RESPONSE, seed=0)
    chosen, rejected = (
        np.concatenate([getattr(test.items, side) for test in TESTS])[pairs.kept]
        for side in ("pair_chosen", "pair_rejected")
    )
    assert list(zip(chosen.tolist(), rejected.tolist(), strict=True)) == [(0, 1), (4, 5), (0, 2), (0, 3)]
    assert pairs.prompt.tolist() == [0, 1, 0, 0]


def outcomes(reward):
    found = []
    for test in TESTS:
        margin = reward[test.items.pair_chosen] - reward[test.items.pair_rejected]
        found.append(Outcomes(margin > 0, -np.logaddexp(0, -margin), margin=margin))
    return found


def test_a_verdicts_measures_are_those_of_its_pairs():
    rewards = {
        "base": np.array([0.0, 1, -1, 2, 0, 1]),
        "base:tempered": np.array([0.0, 0.5, -0.5, 1, 0, 0.5]),
        "length": np.array([9.0, 3, 2, 1, 1, 9]),
    }
    (pairs,) = judged_pairs(TESTS, PROMPT_OF_RESPONSE, seed=0)
    refined = [outcomes(np.array(row, float)) for row in ([3, 1, 2, 4, 0, -1], [3, 1, 2, 0, 0, -1])]
    references = {name: [outcomes(reward)] * 2 for name, reward in rewards.items()}
    row = verdict_row(LABEL, pairs, refined, references)
    assert (row.seeds, row.prompts, row.pairs) == (2, 2, 4)
    assert row.base.accuracy == 1 / 4
    assert row.refined.accuracy == (3 / 4 + 4 / 4) / 2
    assert row.length_accuracy == 3 / 4
    assert row.base.nll == pytest.approx(np.mean(np.log1p(np.exp([1, 1, -1, 2]))))


VERDICT = Verdict(
    "sqrbm", 20, 400, Measures(0.6, 0.66, 0.1), Measures(0.6, 0.64, 0.05), Measures(0.7, 0.6, 0.04),
    Difference(0.1, 0.02, 0.18), Difference(-0.06, -0.1, -0.02), Difference(-0.04, -0.08, -0.01),
    {}, length_accuracy=0.55, length_over_base=Difference(-0.05, -0.1, 0.0), changed=20,
)  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"length_accuracy": 0.8, "length_over_base": Difference(0.2, 0.1, 0.3)},
        {"changed": 3},
        {"pairs": 80, "accuracy": Difference(0.1, -0.1, 0.3)},
    ],
)
def test_a_row_keeps_all_that_the_sentence_says(changed):
    verdict = replace(VERDICT, **changed)
    row = VerdictRow.of({**LABEL, "test": "made up"}, verdict, seeds=1)
    assert row.verdict.sentence == verdict.sentence
    assert row.use == row.verdict.use == verdict.use
