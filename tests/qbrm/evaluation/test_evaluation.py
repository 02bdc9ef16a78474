"""Accuracies, intervals and calibration are those that a person with a pencil would find."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from qbrm.evaluation import PromptBootstrap, expected_calibration_error, means, reliability
from qbrm.preferences import read_preferences, response_id
from qbrm_lab.comparison.evaluate import EvaluationSet, PartOfTest, difference, proper_scores, rows, summary
from qbrm_lab.evaluation.outcomes import Items, Outcomes, is_correct
from qbrm_lab.responses import Responses

# Best-of-n items as (category, prompt, chosen, rejected), their answers scored by REWARD below.
BON = [
    ("easy", "p1", "great", ("poor", "fair")),  # beats both
    ("easy", "p2", "good", ("fair", "twin of good")),  # ties with one: wrong
    ("easy", "p3", "fair", ("poor", "good")),  # loses to one: wrong
    ("easy", "p4", "good", ("fair", "poor")),  # beats both
    ("hard", "p5", "poor", ("fair", "poor")),  # loses to one, and is its own rejected answer: wrong
]
BON_CORRECT = [True, False, False, True, False]
PAIRWISE = [
    ("easy", "p1", "great", "poor"),  # right
    ("easy", "p2", "good", "twin of good"),  # a tie: wrong
    ("hard", "p3", "fair", "poor"),  # right
    ("hard", "p3", "fair", "good"),  # wrong
    ("hard", "p6", "good", "fair"),  # right
]
PAIRWISE_CORRECT = [True, False, True, False, True]
REWARD = {"poor": -1.0, "fair": 0.0, "good": 0.5, "twin of good": 0.5, "great": 3.0}

LABEL = {"scenario": "fresh", "method": "by hand"}
OVER = LABEL | {"reference": "other"}


@pytest.fixture
def rmb(tmp_path):
    """Writes BON and PAIRWISE as an RMB tree; gives both sets' items and the reward of every row."""

    def conversation(prompt):
        return [{"role": "user", "content": prompt}]

    bon = [
        {
            "bon_uid": f"b{number}",
            "category_path": f"BoN_set/{category}",
            "conversation_input": conversation(prompt),
            "bon_best": {"llm_name": "x", "answer": chosen},
            "loser_list": [{"llm_name": "x", "answer": answer} for answer in rejected],
        }
        for number, (category, prompt, chosen, rejected) in enumerate(BON)
    ]
    pairwise = [
        {
            "pair_uid": f"p{number}",
            "category_path": f"Pairwise_set/{category}",
            "conversation_input": conversation(prompt),
            "chosen": {"llm_name": "x", "answer": chosen},
            "reject": {"llm_name": "x", "answer": rejected},
        }
        for number, (category, prompt, chosen, rejected) in enumerate(PAIRWISE)
    ]
    for folder, content in (("BoN_set", bon), ("Pairwise_set", pairwise)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "items.json").write_text(json.dumps(content))
    preferences = read_preferences(tmp_path)
    responses = Responses([preferences])
    of_id = {response_id(text): reward for text, reward in REWARD.items()}
    reward = np.array([of_id[response] for _, response in responses.keys])
    return {name: responses.items(preferences, name) for name in ("bon", "pairwise")}, reward


def items_of(prompt, category=None):
    """One pair per item; prompts and categories as numbers."""
    prompt = np.asarray(prompt)
    category = np.zeros(len(prompt), dtype=int) if category is None else np.asarray(category)
    order = np.arange(len(prompt))
    names = tuple(f"category {index}" for index in range(category.max() + 1))
    return Items(prompt, category, 2 * order, order, 2 * order, 2 * order + 1, int(prompt.max()) + 1, names)


def width(interval):
    return interval[1] - interval[0]


def test_best_of_n_counts_answers_that_beat_every_other_without_ties(rmb):
    items, reward = rmb
    assert is_correct(items["bon"], reward).tolist() == BON_CORRECT


def test_pairwise_ties_are_wrong(rmb):
    items, reward = rmb
    assert is_correct(items["pairwise"], reward).tolist() == PAIRWISE_CORRECT


def test_equal_rewards_everywhere_are_wrong_everywhere(rmb):
    items, reward = rmb
    for part in items.values():
        assert not is_correct(part, np.zeros_like(reward)).any()


def test_micro_averages_items_and_macro_averages_categories(rmb):
    items, _ = rmb
    expected = {"all": 2 / 5, "macro": (2 / 4 + 0 / 1) / 2, "easy": 2 / 4, "hard": 0.0}
    assert means(items["bon"], np.array(BON_CORRECT, dtype=float)) == pytest.approx(expected)
    expected = {"all": 3 / 5, "macro": (1 / 2 + 2 / 3) / 2, "easy": 1 / 2, "hard": 2 / 3}
    assert means(items["pairwise"], np.array(PAIRWISE_CORRECT, dtype=float)) == pytest.approx(expected)


def test_rows_say_how_many_items_each_category_has(rmb):
    items, reward = rmb
    test = EvaluationSet(PartOfTest("made up"), "bon", items["bon"], PromptBootstrap(items["bon"]))
    found = rows({**LABEL, "seed": 0}, test, Outcomes(is_correct(items["bon"], reward), None))
    assert {row.category: row.n for row in found} == {"all": 5, "macro": 5, "easy": 4, "hard": 1}
    assert {row.category: row.accuracy for row in found} == {"all": 0.4, "macro": 0.25, "easy": 0.5, "hard": 0.0}
    assert all(row.nll is None and row.ece is None for row in found)


def test_items_that_share_a_prompt_widen_the_interval():
    value = np.repeat(np.arange(30) % 2, 8).astype(float)  # all eight items of a prompt are right, or all are wrong
    together = PromptBootstrap(items_of(np.repeat(np.arange(30), 8))).intervals(value)["all"]
    apart = PromptBootstrap(items_of(np.arange(240))).intervals(value)["all"]
    # The standard error grows by the square root of the items per prompt.
    assert width(together) / width(apart) == pytest.approx(math.sqrt(8), rel=0.1)


def test_interval_of_independent_items_is_the_normal_one():
    value = (np.arange(400) % 5 > 0).astype(float)
    low, high = PromptBootstrap(items_of(np.arange(400))).intervals(value)["all"]
    error = math.sqrt(0.8 * 0.2 / 400)
    assert (low, high) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.005)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    trials, covered, covered_apart = 150, 0, 0
    prompt = np.repeat(np.arange(60), 3)
    for trial in range(trials):
        ability = generator.beta(1, 1, 60)  # of each prompt; 1/2 on average, and the same for its three items
        value = (generator.random(180) < ability[prompt]).astype(float)
        low, high = PromptBootstrap(items_of(prompt), seed=trial).intervals(value)["all"]
        covered += low <= 0.5 <= high
        low, high = PromptBootstrap(items_of(np.arange(180)), seed=trial).intervals(value)["all"]
        covered_apart += low <= 0.5 <= high
    assert 0.89 <= covered / trials <= 0.99
    assert covered_apart < covered


def test_intervals_are_percentiles_of_resampled_prompts():
    generator = np.random.default_rng(1)
    prompt, category = np.repeat(np.arange(12), 2), np.tile([0, 0, 0, 1], 6)
    value = (generator.random(24) < 0.6).astype(float)
    found = PromptBootstrap(items_of(prompt, category), seed=3).intervals(value)
    samples = {"all": [], "macro": [], "category 0": [], "category 1": []}
    for _ in range(4000):
        picked = np.concatenate([np.flatnonzero(prompt == p) for p in generator.integers(12, size=12)])
        parts = [value[picked[category[picked] == index]] for index in (0, 1)]
        samples["all"].append(value[picked].mean())
        samples["macro"].append(np.mean([part.mean() for part in parts if len(part)]))
        for index, part in enumerate(parts):
            if len(part):
                samples[f"category {index}"].append(part.mean())
    for name, sample in samples.items():
        assert found[name] == pytest.approx(tuple(np.percentile(sample, [2.5, 97.5])), abs=0.035), name


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    items = items_of(np.repeat(np.arange(37), 2))
    value = np.random.default_rng(0).random(74)
    first, again, other = (PromptBootstrap(items, seed).intervals(value)["all"] for seed in (5, 5, 6))
    assert first == again
    assert first != other


def outcomes_of(correct):
    return Outcomes(np.asarray(correct, dtype=bool), None)


def evaluation_set(items):
    return EvaluationSet(PartOfTest("made up"), "pairwise", items, PromptBootstrap(items))


def test_a_method_differs_from_itself_by_exactly_nothing():
    items = items_of(np.repeat(np.arange(20), 3))
    same = [outcomes_of(np.random.default_rng(seed).random(60) < 0.5) for seed in range(3)]
    row = difference(OVER, evaluation_set(items), same, same)
    assert (row.difference, row.ci_low, row.ci_high) == (0, 0, 0)


def test_difference_is_paired():
    """Two methods that differ on two prompts only: the interval knows it, two separate intervals would not."""
    items = items_of(np.arange(100))
    reference = np.arange(100) % 2 == 0
    better = reference | np.isin(np.arange(100), (1, 3))
    row = difference(OVER, evaluation_set(items), [outcomes_of(better)], [outcomes_of(reference)])
    assert row.difference == pytest.approx(0.02)
    assert 0 <= row.ci_low < row.ci_high <= 0.06
    separate = PromptBootstrap(items).intervals(better.astype(float))["all"]
    assert width((row.ci_low, row.ci_high)) < width(separate) / 3


def test_seeds_are_averaged_before_prompts_are_resampled():
    items = items_of(np.arange(50))
    seeds = [outcomes_of(np.random.default_rng(seed).random(50) < 0.6) for seed in range(4)]
    found = {row.category: row for row in summary(LABEL, evaluation_set(items), seeds)}["all"]
    mean = np.mean([seed.correct for seed in seeds], axis=0)
    error = mean.std() / math.sqrt(50)
    assert found.accuracy == pytest.approx(mean.mean())
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (mean.mean() - 1.96 * error, mean.mean() + 1.96 * error), abs=0.02
    )
    assert found.seeds == 4


def test_log_loss_and_its_macro_average_by_hand():
    items = items_of(np.arange(4), category=[0, 0, 0, 1])
    scores = proper_scores(items, np.log([0.9, 0.8, 0.5, 0.25]))
    first = -(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3
    assert scores["all"][0] == pytest.approx((3 * first - math.log(0.25)) / 4)
    assert scores["macro"][0] == pytest.approx((first - math.log(0.25)) / 2)
    assert scores["category 1"][0] == pytest.approx(-math.log(0.25))


def test_calibration_error_by_hand():
    # Confidences .9 (right), .9 (wrong), .7 (right), .6 (right): bins of width .05 from .5 on keep the last two apart.
    probability = np.array([0.91, 0.09, 0.72, 0.63])
    bins = reliability(np.log(probability))
    assert bins.confidence == pytest.approx([0.63, 0.72, 0.91])
    assert bins.accuracy == pytest.approx([1, 1, 0.5])
    assert bins.pairs.tolist() == [1, 1, 2]
    expected = (abs(0.63 - 1) + abs(0.72 - 1) + 2 * abs(0.91 - 0.5)) / 4
    assert expected_calibration_error(np.log(probability)) == pytest.approx(expected)


def test_certainty_has_no_calibration_error_if_right_and_all_if_wrong():
    assert expected_calibration_error(np.zeros(5)) == 0
    assert expected_calibration_error(np.full(5, -40.0)) == pytest.approx(1)


def test_probabilities_that_come_true_as_often_as_they_say_are_calibrated():
    generator = np.random.default_rng(0)
    claimed = generator.uniform(0, 1, 100_000)
    chosen_wins = generator.random(100_000) < claimed
    of_chosen = np.where(chosen_wins, claimed, 1 - claimed)
    assert expected_calibration_error(np.log(of_chosen)) < 0.01


def test_a_tie_counts_as_half_right_in_calibration():
    """As it arrives: log sigmoid of equal rewards, in single precision."""
    tie = functional.logsigmoid(torch.zeros(6)).double().numpy()
    assert reliability(tie).accuracy.tolist() == [0.5]
    assert expected_calibration_error(tie) == pytest.approx(0, abs=1e-6)
