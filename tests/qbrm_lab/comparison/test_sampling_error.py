"""Every number that sampling touches says how far it is a matter of the draw."""

import math

import numpy as np
import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.evaluation import PromptBootstrap
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings, compare
from qbrm_lab.comparison.evaluate import EvaluationSet, PartOfTest, proper_scores
from qbrm_lab.comparison.sampling import difference_error, sampling_columns
from qbrm_lab.evaluation.outcomes import Items, Outcomes, Sampling
from qbrm_lab.report import markdown_table

PAIRS = 40


def pairwise_set():
    rows = np.arange(PAIRS)
    items = Items(rows, rows % 2, rows, rows, rows, rows + PAIRS, PAIRS, ("even", "odd"))
    return EvaluationSet(PartOfTest("made up"), "pairwise", items, PromptBootstrap(items))


def drawn(seed, draws=4):
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.2, 0.9, (draws, PAIRS))
    found = [Outcomes(generator.random(PAIRS) < p, np.log(p)) for p in probability]
    return found[0]._replace(sampling=Sampling(50.0 + seed, tuple(found[1:]))), found


@pytest.mark.parametrize("category", ["all", "even", "macro"])
def test_errors_of_a_mean_over_seeds_are_the_spread_over_draws(category):
    test, seeds = pairwise_set(), [drawn(seed) for seed in (0, 1, 2)]
    picked = {"all": slice(None), "even": slice(0, None, 2)}
    spread_accuracy, spread_nll = [], []
    for _, draws in seeds:
        if category == "macro":
            accuracy = [(d.correct[0::2].mean() + d.correct[1::2].mean()) / 2 for d in draws]
            nll = [-(d.log_probability[0::2].mean() + d.log_probability[1::2].mean()) / 2 for d in draws]
        else:
            accuracy = [d.correct[picked[category]].mean() for d in draws]
            nll = [-d.log_probability[picked[category]].mean() for d in draws]
        spread_accuracy.append(np.var(accuracy, ddof=1))
        spread_nll.append(np.var(nll, ddof=1))
    found = sampling_columns(test, [outcome for outcome, _ in seeds], category)
    assert found.effective_samples == pytest.approx(51)
    assert found.accuracy_error == pytest.approx(math.sqrt(sum(spread_accuracy)) / 3)
    assert found.nll_error == pytest.approx(math.sqrt(sum(spread_nll)) / 3)
    assert found.ece_error > 0
    assert proper_scores(test.items, seeds[0][0].log_probability)[category][0] > 0


def test_the_error_of_a_difference_adds_those_of_both_sides_in_squares():
    (one, one_draws), (other, other_draws) = drawn(3), drawn(4)
    exact = one._replace(sampling=None)
    variance = [np.var([d.correct.mean() for d in draws], ddof=1) for draws in (one_draws, other_draws)]
    assert difference_error([exact], [exact]) is None
    assert difference_error([one], [exact]) == pytest.approx(math.sqrt(variance[0]))
    assert difference_error([one], [other]) == pytest.approx(math.sqrt(sum(variance)))


def test_only_sampled_comparisons_state_a_sampling_error(tmp_path, monkeypatch, one_thread):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 48)
    settings = {"methods": ("base", "qbm"), "seeds": 1, "epochs": 1, "hidden": 4, "sampler": "gibbs"}
    compared = compare(ComparisonSettings(prefs, tmp_path / "out", reward_model="fake", **settings), Reporter())
    results = compared.content()
    for table in ("rows", "summary"):
        for row in results[table]:
            assert ("sampling" in row) == (row["method"] == "qbm")
            if row["method"] == "qbm":
                assert row["sampling"].keys() == {"effective_samples", "accuracy_error", "nll_error", "ece_error"}
                assert row["sampling"]["effective_samples"] > 30
    assert all(row["sampling_error"] >= 0 for row in results["differences"])
    epochs = [epoch for epoch in results["epochs"] if epoch["method"] == "qbm"]
    assert all(epoch["monte_carlo_error"] > 0 and epoch["effective_samples"] > 30 for epoch in epochs)
    assert "±" in markdown_table(compared)
    assert "effective states" in markdown_table(compared)
