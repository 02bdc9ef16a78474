"""Abstaining, predicted deviations and intervals are worth what a person with a pencil would find."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from qbrm.energies import SemiQuantumRBM
from qbrm.evaluation import PromptBootstrap, decisions
from qbrm_lab.comparison.evaluate import EvaluationSet, PartOfTest
from qbrm_lab.comparison.uncertainty import deviation_rows, risk_coverage_rows
from qbrm_lab.evaluation import (
    area,
    curve_points,
    deviation_bins,
    error_auroc,
    interval_coverage,
    oracle_risk,
    resampled_areas,
    resampled_aurocs,
    selective_risk,
)
from qbrm_lab.evaluation.outcomes import Items, Outcomes
from qbrm_lab.results.rows import AreaDifference
from qbrm_lab.studies.simulation import (
    coverage_rows,
    known_machine,
    quantile_coverage,
    simulate,
)

pytestmark = pytest.mark.usefixtures("one_thread")
LABEL = {"scenario": "fresh"}
few_levels = st.lists(st.sampled_from([0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.97]), min_size=1, max_size=6)
many = st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=60)
unhurried = settings(deadline=None, max_examples=60)


def pairs_on(prompt):
    """One pair per item, of one category."""
    prompt = np.asarray(prompt)
    rows = np.arange(len(prompt))
    return Items(prompt, np.zeros_like(prompt), rows, rows, rows, rows + len(rows), int(prompt.max()) + 1, ("all",))


def evaluation_set(items):
    return EvaluationSet(PartOfTest("made up"), "pairwise", items, PromptBootstrap(items))


def outcomes_of(probability):
    return Outcomes(probability > 0.5, np.log(probability))


def one(rows):
    (row,) = rows
    return row


def test_risk_of_the_most_certain_by_hand():
    # Certainties .9 (right), .8 (wrong), .7 (right), .6 (wrong).
    log_probability = np.log([0.6 - 0.2, 0.9, 0.2, 0.7])
    assert selective_risk(log_probability) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert area(selective_risk(log_probability)) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert oracle_risk(log_probability) == pytest.approx([0, 0, 1 / 3, 1 / 2])


@unhurried
@example([0.2, 0.8, 0.9])
@given(few_levels)
def test_area_is_the_mean_over_all_orders_that_certainty_allows(probability):
    """Brute force: every order in which certainty never rises, equally likely."""
    certainty = [max(p, 1 - p) for p in probability]
    error = [0.5 if p == 0.5 else float(p < 0.5) for p in probability]
    areas = [
        sum(sum(error[i] for i in order[: k + 1]) / (k + 1) for k in range(len(order))) / len(order)
        for order in permutations(range(len(probability)))
        if all(round(certainty[a], 12) >= round(certainty[b], 12) for a, b in pairwise(order))
    ]
    assert area(selective_risk(np.log(probability))) == pytest.approx(np.mean(areas), abs=1e-9)


@unhurried
@given(many)
def test_no_order_of_the_same_decisions_beats_the_oracle(probability):
    log_probability = np.log(probability)
    risk, oracle = selective_risk(log_probability), oracle_risk(log_probability)
    assert (oracle <= risk + 1e-12).all()
    assert risk[-1] == pytest.approx(oracle[-1])
    assert risk[-1] == pytest.approx(1 - decisions(log_probability).right.mean())


@unhurried
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_certainty_that_puts_right_before_wrong_has_the_oracles_area(right, random):
    certainty = [random.uniform(0.8, 0.99) if correct else random.uniform(0.51, 0.75) for correct in right]
    probability = [p if correct else 1 - p for p, correct in zip(certainty, right, strict=True)]
    log_probability = np.log(probability)
    assert area(selective_risk(log_probability)) == pytest.approx(area(oracle_risk(log_probability)), abs=1e-12)


def test_the_oracles_area_is_about_that_of_its_limit():
    """With error rate r and many pairs it is r + (1 - r) log(1 - r); Geifman et al. (2019), equation 2."""
    probability = np.where(np.arange(100_000) < 30_000, 0.2, 0.9)
    assert area(oracle_risk(np.log(probability))) == pytest.approx(0.3 + 0.7 * math.log(0.7), abs=1e-4)


def test_certainty_that_knows_nothing_gives_a_flat_curve():
    generator = np.random.default_rng(0)
    certainty = generator.uniform(0.5, 1, 20_000)
    log_probability = np.log(np.where(generator.random(20_000) < 0.3, 1 - certainty, certainty))
    risk = selective_risk(log_probability)
    assert risk[2000:] == pytest.approx(0.3, abs=0.03)
    assert area(risk) == pytest.approx(risk[-1], abs=0.02)


def test_equal_certainty_of_all_gives_an_exactly_flat_curve():
    log_probability = np.log([0.7, 0.3, 0.7, 0.7])
    assert selective_risk(log_probability) == pytest.approx([0.25] * 4)


def test_swapping_the_sides_keeps_the_order_and_turns_decisions():
    log_probability = np.log([0.9, 0.2, 0.65])  # certainties .9 (right), .8 (wrong), .65 (right)
    assert selective_risk(log_probability) == pytest.approx([0, 1 / 2, 1 / 3])
    assert selective_risk(np.log1p(-np.exp(log_probability))) == pytest.approx([1, 1 / 2, 2 / 3])


@pytest.mark.parametrize("pairs", [1, 7, 50, 51, 2112])
def test_a_curve_has_at_most_fifty_points_and_ends_with_all_pairs(pairs):
    points = curve_points(pairs)
    assert len(points) == min(pairs, 50)
    assert points[0] >= 1
    assert points[-1] == pairs
    assert (np.diff(points) > 0).all()


@pytest.mark.parametrize("statistic", ["area", "auroc"])
def test_a_resample_is_worth_what_its_pairs_are_when_written_out(statistic):
    generator = np.random.default_rng(2)
    log_probability = np.log(generator.uniform(0.05, 0.95, 400))
    deviation, right = generator.random(400).round(1), decisions(log_probability).right
    picked = [generator.integers(400, size=400) for _ in range(5)]
    counts = np.array([np.bincount(rows, minlength=400) for rows in picked]).astype(float)
    if statistic == "area":
        expected = [area(selective_risk(log_probability[rows])) for rows in picked]
        # Copies of a pair count as one here and follow each other there.
        assert resampled_areas(log_probability, counts) == pytest.approx(expected, abs=2e-3)
        assert resampled_areas(log_probability, np.ones((1, 400)))[0] == pytest.approx(
            area(selective_risk(log_probability))
        )
    else:
        expected = [error_auroc(deviation[rows], right[rows]) for rows in picked]
        assert resampled_aurocs(deviation, right, counts) == pytest.approx(expected)


def test_samples_of_a_mean_are_the_intervals_of_the_mean():
    items = pairs_on(np.repeat(np.arange(30), 3))
    value = np.random.default_rng(0).random(90)
    bootstrap = PromptBootstrap(items)
    samples = bootstrap.samples(lambda counts: counts @ value / counts.sum(1), items.prompt)
    assert np.percentile(samples, [2.5, 97.5]) == pytest.approx(bootstrap.intervals(value)["all"])


def test_error_auroc_is_mann_and_whitneys():
    generator = np.random.default_rng(1)
    deviation, right = generator.random(200).round(1), (generator.random(200) < 0.6).astype(float)
    statistic = mannwhitneyu(deviation[right == 0], deviation[right == 1]).statistic
    assert error_auroc(deviation, right) == pytest.approx(statistic / (right == 0).sum() / (right == 1).sum())


def test_error_auroc_by_hand():
    # Wrong: 3 and 1. Right: 2 and 1. Undecided: 9. Wins of wrong over right: 3>2, 3>1, 1=1 for half.
    assert error_auroc(np.array([3.0, 1, 2, 1, 9]), np.array([0, 0, 1, 1, 0.5])) == pytest.approx(2.5 / 4)


@pytest.mark.parametrize("right", [[1.0, 1.0], [0.0, 0.0], [0.5, 1.0]])
def test_without_both_right_and_wrong_decisions_there_is_no_auroc(right):
    assert error_auroc(np.array([1.0, 2.0]), np.array(right)) is None


def test_deviation_bins_by_hand():
    deviation, right = np.array([4.0, 1, 3, 2, 5]), np.array([0, 1, 0.5, 1, 0])
    bins = deviation_bins(deviation, right, bins=2)
    assert bins.deviation == pytest.approx([2, 4.5])
    assert bins.error == pytest.approx([0.5 / 3, 1])
    assert bins.pairs.tolist() == [3, 2]


@unhurried
@given(many)
def test_bins_keep_all_pairs_and_their_mean_error(deviation):
    right = (np.arange(len(deviation)) % 3 > 0).astype(float)
    bins = deviation_bins(np.array(deviation), right)
    assert bins.pairs.sum() == len(deviation)
    assert np.average(bins.error, weights=bins.pairs) == pytest.approx(1 - right.mean())
    assert (np.diff(bins.deviation) >= -1e-12).all()


def test_rows_are_means_over_seeds():
    items = pairs_on(np.repeat(np.arange(60), 2))
    generator = np.random.default_rng(0)
    seeds = [
        Outcomes(np.ones(120, bool), np.log(generator.uniform(0.1, 0.95, 120)), deviation=generator.uniform(1, 2, 120))
        for _ in range(3)
    ]
    curve = one(risk_coverage_rows(LABEL, evaluation_set(items), {"made up": seeds}, ()))
    areas = [area(selective_risk(seed.log_probability)) for seed in seeds]
    assert curve.aurc == pytest.approx(np.mean(areas))
    best = [area(oracle_risk(seed.log_probability)) for seed in seeds]
    assert curve.excess == pytest.approx(np.mean(areas) - np.mean(best))
    assert curve.ci_low < curve.aurc < curve.ci_high
    assert (curve.n, curve.seeds, len(curve.accuracy)) == (120, 3, 50)
    right = np.mean([decisions(seed.log_probability).right.mean() for seed in seeds])
    assert curve.accuracy[-1] == pytest.approx(right, abs=1e-6)
    told = one(deviation_rows({**LABEL, "method": "made up"}, evaluation_set(items), seeds))
    aurocs = [error_auroc(seed.deviation, decisions(seed.log_probability).right) for seed in seeds]
    assert told.auroc == pytest.approx(np.mean(aurocs))
    assert told.ci_low < told.auroc < told.ci_high
    assert np.mean(told.error) == pytest.approx(1 - right, abs=1e-6)


def test_differences_of_areas_are_paired():
    """A method that differs from another in a few pairs only: the interval knows it, two separate ones would not."""
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.2, 0.95, 200)
    better = np.where(np.arange(200) % 20 == 0, 0.9, probability)
    found = {"base": [outcomes_of(probability)], "better": [outcomes_of(better)], "same": [outcomes_of(probability)]}
    rows = risk_coverage_rows(LABEL, evaluation_set(pairs_on(np.arange(200))), found, ("base", "mlp"))
    base, better, same = rows
    assert base.differences == []
    (over,) = better.differences
    assert over.difference == pytest.approx(better.aurc - base.aurc)
    assert over.ci_low < over.difference < over.ci_high < 0
    assert over.ci_high - over.ci_low < (base.ci_high - base.ci_low) / 2
    assert same.differences == [AreaDifference(reference="base", difference=0, ci_low=0, ci_high=0)]


def test_without_probabilities_no_curve_without_a_score_no_deviations():
    test = evaluation_set(pairs_on(np.arange(4)))
    silent = Outcomes(np.ones(4, bool), None)
    points_only = Outcomes(np.ones(4, bool), np.log([0.6, 0.7, 0.8, 0.9]))
    assert (
        risk_coverage_rows(LABEL, test, {"made up": [silent]}, ())
        == deviation_rows({**LABEL, "method": "made up"}, test, [silent])
        == []
    )
    assert deviation_rows({**LABEL, "method": "made up"}, test, [points_only]) == []


def test_where_everything_is_right_the_deviation_has_nothing_to_tell():
    test = evaluation_set(pairs_on(np.arange(4)))
    right = Outcomes(np.ones(4, bool), np.log([0.6, 0.7, 0.8, 0.9]), deviation=np.arange(1.0, 5))
    row = one(deviation_rows({**LABEL, "method": "made up"}, test, [right]))
    assert row.auroc is row.ci_low is row.ci_high is None
    assert row.error == [0, 0, 0, 0]


def test_coverage_by_hand():
    truth, low, high = np.array([0.0, 1, 2, 3]), np.array([-1.0, 1, 3, 0]), np.array([1.0, 2, 4, 2])
    found = interval_coverage(truth, low, high)
    assert found.share == 0.5
    assert found.error == pytest.approx(math.sqrt(0.25 / 4))


def test_simulated_rewards_follow_the_known_machine():
    """Its own quantile intervals contain them as often as they say, whatever the shape of p(r | e)."""
    machine = known_machine(0, anchored=True)
    for level, found in quantile_coverage(machine, simulate(machine, 4000, seed=1)).items():
        assert abs(found.share - level) < 4 * found.error


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fitted_machines_intervals_cover_as_often_as_they_claim(seed):
    for row in coverage_rows(seed):
        # The machine fitted to preferences never saw a reward; sampling error of 4,000 test rewards is a third of this.
        tolerance = 0.025 if row.fitted_to == "rewards" else 0.06
        assert row.coverage == pytest.approx(row.level, abs=tolerance), row


def test_intervals_of_a_machine_that_was_not_fitted_cover_too_little():
    machine = known_machine(0, anchored=True)
    data = simulate(machine, 2000, seed=1)
    torch.manual_seed(0)
    untrained = SemiQuantumRBM(machine.dim)
    untrained.standardise(data.embedding, data.base_reward)
    assert quantile_coverage(untrained, data)[0.9].share < 0.8
