"""The verdict: numbers by hand, and the sentence that they call for."""

from dataclasses import replace

import numpy as np
import pytest

from qbrm.evaluation.verdict import Difference, Measures, Predictions, Verdict, compare_with_base

GOOD = Verdict(
    score="sqrbm:gate",
    prompts=114,
    pairs=613,
    base=Measures(0.6, 0.7, 0.08),
    tempered=Measures(0.6, 0.625, 0.03),
    refined=Measures(0.616, 0.592, 0.02),
    accuracy=Difference(0.016, 0.004, 0.029),
    nll=Difference(-0.108, -0.15, -0.05),
    over_tempered=Difference(-0.033, -0.05, -0.01),
    competitors={},
    length_accuracy=0.55,
    length_over_base=Difference(-0.05, -0.09, -0.01),
    changed=40,
)


def predictions(right, probability=0.8):
    right = np.asarray(right, float)
    return Predictions(right - 0.5, np.log(np.where(right > 0, probability, 1 - probability)))


def test_a_gain_beyond_its_interval_is_to_be_used():
    assert GOOD.use
    assert GOOD.sentence == (
        "Use it: +1.6 points [+0.4, +2.9] over the base on 613 pairs of 114 prompts, log-loss 0.700 -> 0.592 "
        "(0.625 with a temperature alone)."
    )


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        (
            {"score": "base:tempered"},
            "Do not refine: nothing beats the base with a temperature; that is what was saved.",
        ),
        (
            {"score": "base:tempered", "tried": "qbm"},
            "Do not refine: qbm does not beat the base with a temperature; that is what was saved.",
        ),
        (
            {"score": "base:tempered", "tried": "sqrbm:gate", "unproven": True},
            "Do not refine: no strength of sqrbm:gate is shown not to lose a point;",
        ),
        ({"changed": 5, "over_tempered": Difference(-0.001, -0.004, 0.002)}, "Not shown to help"),
        (
            {"accuracy": Difference(0.003, -0.009, 0.014), "over_tempered": Difference(-0.001, -0.004, 0.002)},
            "Not shown to help: +0.3 points [-0.9, +1.4]",
        ),
        ({"over_tempered": Difference(0.02, 0.01, 0.03)}, "Do not use it: +1.6 points"),
        ({"accuracy": Difference(-0.02, -0.03, -0.01)}, "Do not use it: -2.0 points"),
        (
            {"length_accuracy": 0.618, "length_over_base": Difference(0.018, 0.002, 0.03)},
            "Length alone decides 61.8%, more than this reward model (60.0%) on 613 pairs of 114 prompts: mend",
        ),
    ],
)
def test_anything_else_is_not(changes, begins):
    verdict = replace(GOOD, **changes)
    assert not verdict.use
    assert verdict.sentence.startswith(begins)


def test_length_that_beats_the_base_but_not_the_refined_rewards_is_no_reason_against_them():
    assert replace(GOOD, length_accuracy=0.61, length_over_base=Difference(0.01, 0.001, 0.02)).use


def test_length_that_beats_the_base_within_its_interval_is_none_either():
    assert replace(GOOD, length_accuracy=0.63, length_over_base=Difference(0.03, -0.001, 0.06)).use


def test_better_probabilities_alone_are_called_that():
    verdict = replace(GOOD, accuracy=Difference(0.001, -0.004, 0.006))
    assert verdict.use
    assert verdict.sentence.startswith("Use it for its probabilities, not for its order: +0.1 points")


def test_an_accuracy_of_all_or_nothing_is_not_said_to_be_known_exactly():
    few = replace(GOOD, pairs=8, prompts=8, base=Measures(1.0, 0.1, 0.0))
    assert few.caution.endswith("to within 16 points.")  # Wilson's interval of 8 of 8 is [67.6%, 100%]


def test_under_three_hundred_pairs_the_sentence_says_how_little_they_tell():
    assert replace(GOOD, pairs=96).sentence.endswith(
        "96 test pairs tell little: an accuracy is known to within 9 points."
    )
    assert "tell little" not in GOOD.sentence


def test_numbers_are_those_of_the_pairs():
    prompt = np.array([5, 5, 9, 9])
    base, refined = predictions([1, 0, 0, 0]), predictions([1, 1, 1, 0])
    verdict = compare_with_base("rbm", 0.5, prompt, base, base, refined, {}, length=np.array([3, -1, 0, 2]))
    assert (verdict.prompts, verdict.pairs) == (2, 4)
    assert verdict.base.accuracy == 0.25
    assert verdict.refined.accuracy == 0.75
    assert verdict.refined.nll == pytest.approx(-(3 * np.log(0.8) + np.log(0.2)) / 4)
    assert verdict.accuracy.mean == 0.5
    assert verdict.nll.mean == pytest.approx(verdict.refined.nll - verdict.base.nll)
    assert verdict.length_accuracy == 0.5  # equal lengths are wrong


def test_intervals_resample_prompts():
    """One prompt with all the gain: its pairs come and go together."""
    prompt = np.repeat(np.arange(20), 10)
    gain = (prompt == 0).astype(float)
    base, refined = predictions(np.zeros(200)), predictions(gain)
    verdict = compare_with_base("rbm", 1.0, prompt, base, base, refined, {})
    alone = compare_with_base("rbm", 1.0, np.arange(200), base, base, refined, {})
    assert verdict.accuracy.low == 0 < alone.accuracy.low
    assert verdict.accuracy.mean == alone.accuracy.mean == pytest.approx(0.05)


def test_the_json_has_the_promised_keys():
    keys = set(GOOD.to_dict())
    promised = "schema use score test base refined difference competitors length_accuracy probes keep sentence"
    assert set(promised.split()) <= keys
    assert GOOD.to_dict()["difference"]["accuracy"] == [0.016, 0.004, 0.029]
    assert set(GOOD.to_dict()["base"]) == {"accuracy", "nll", "ece"}
