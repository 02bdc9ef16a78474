"""The targets of the robustness study, decided on results made by hand, and what its quick form leaves out."""

import pytest

from fixtures.study_files import METHODS, as_results, made_results
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared
from qbrm_lab.comparison.sources import Sources
from qbrm_lab.results import Tables
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies import robustness
from qbrm_lab.studies.robustness import CANDIDATE, study_robustness, targets, targets_table
from qbrm_lab.studies.robustness import METHODS as COMPARED

ASKED = (
    "at least as accurate as the MLP, within the paired interval, in every scenario, best-of-n included",
    "better than the MLP in at least two scenarios, beyond the interval",
    "shift, both domains: 3 points above base",
    "shift, both domains: 3 points above mlp",
    "shift, both domains: 10 points above ebrm",
    "never below the base by more than its interval, the un-refined domain and best-of-n included",
    "a better log-loss than every other method in every scenario, by the mean",
    "a better calibration error than every other method in every scenario, by the mean",
)


def reaching():
    """Results that reach every target, by a little."""
    results = made_results()
    for row in results["differences"]:
        if row["method"] == CANDIDATE:
            row |= {"difference": 0.031, "ci_low": 0.001, "ci_high": 0.06}
    for row in results["summary"]:
        mine = row["method"] == CANDIDATE
        row["accuracy"] = 0.7 if mine else 0.599 if row["method"] == "ebrm" else 0.65
        if row["nll"] is not None:
            row |= {"nll": 0.5, "ece": 0.01} if mine else {"nll": 0.51, "ece": 0.02}
    return results


def met(results):
    return {each.text: each.met for each in targets(as_results(results))}


def change(results, table, wanted, **values):
    rows = [row for row in results[table] if wanted.items() <= row.items()]
    assert len(rows) == 1, f"{len(rows)} rows of {table} are {wanted}"
    rows[0].update(values)


def difference(reference, scenario, test="prefs", name="pairwise"):
    return {"method": CANDIDATE, "reference": reference, "scenario": scenario, "test": test, "set": name}


def overall(method, scenario):
    return {"method": method, "scenario": scenario, "test": "prefs", "set": "pairwise", "category": "all"}


def test_every_target_of_the_study_has_a_row_and_all_can_be_met():
    assert met(reaching()) == dict.fromkeys(ASKED, True)


@pytest.mark.parametrize(
    ("target", "table", "wanted", "values"),
    [
        (0, "differences", difference("mlp", "same"), {"ci_high": -0.001}),
        (0, "differences", difference("mlp", "fresh", name="bon"), {"ci_high": -0.001}),
        (2, "differences", difference("base", "shift"), {"difference": 0.029}),
        (3, "differences", difference("mlp", "shift"), {"difference": 0.029}),
        (4, "summary", overall("ebrm", "shift"), {"accuracy": 0.601}),
        (5, "differences", difference("base", "shift", "prefs, Helpfulness"), {"ci_high": -0.001}),
        (5, "differences", difference("base", "same", name="bon"), {"ci_high": -0.001}),
        (6, "summary", overall("mlp", "fresh"), {"nll": 0.499}),
        (7, "summary", overall("base", "same"), {"ece": 0.009}),
    ],
)
def test_each_target_is_missed_for_its_own_reason_alone(target, table, wanted, values):
    results = reaching()
    change(results, table, wanted, **values)
    assert met(results) == dict.fromkeys(ASKED, True) | {ASKED[target]: False}


def test_better_by_the_mean_is_not_better_beyond_the_interval():
    results = reaching()
    for scenario in ("fresh", "same"):
        change(results, "differences", difference("mlp", scenario), difference=0.02, ci_low=-0.001)
    assert met(results) == dict.fromkeys(ASKED, True) | {ASKED[1]: False}


def test_rounding_of_cancelling_differences_is_no_difference():
    results = reaching()
    for scenario in ("fresh", "same"):
        change(results, "differences", difference("mlp", scenario), ci_low=1e-19)
    change(results, "differences", difference("base", "same"), ci_high=-1e-19)
    assert met(results) == dict.fromkeys(ASKED, True) | {ASKED[1]: False}


def test_everything_that_is_below_the_base_is_named():
    results = reaching()
    worse = {"difference": -0.02, "ci_low": -0.03, "ci_high": -0.01}
    change(results, "differences", difference("base", "shift", "prefs, Helpfulness"), **worse)
    change(results, "differences", difference("base", "fresh", name="bon"), **worse)
    found = next(each for each in targets(as_results(results)) if each.text == ASKED[5])
    assert found.measured == "shift on Helpfulness -2.0 [-3.0, -1.0]; fresh, best-of-n -2.0 [-3.0, -1.0]"


def test_without_pairwise_preferences_no_target_is_decided():
    results = reaching()
    for table in ("differences", "summary"):
        results[table] = [row for row in results[table] if row["set"] == "bon"]
    assert targets(as_results(results)) == []


def test_a_target_against_an_absent_method_is_neither_met_nor_missed():
    results = made_results(methods=[name for name in METHODS if name != "ebrm"])
    assert met(results)[ASKED[4]] is None
    assert f"| {ASKED[4]} | ebrm was left out | not measured |" in targets_table(targets(as_results(results)))


def test_the_number_that_decides_stands_beside_the_target():
    results = reaching()
    change(results, "differences", difference("base", "shift"), difference=0.0123, ci_low=-0.0456, ci_high=0.0789)
    found = next(each for each in targets(as_results(results)) if each.text == ASKED[2])
    assert found == (ASKED[2], "+1.2 [-4.6, +7.9]", False)


@pytest.mark.parametrize("quick", [True, False])
def test_quick_leaves_out_ebrm_ensembles_and_sizes_and_nothing_else(quick, monkeypatch, tmp_path):
    asked = []
    settings = ComparisonSettings(tmp_path / "prefs.jsonl", tmp_path)

    def tables(prepared, scenario, methods, reporter):
        asked.append((scenario, tuple(methods)))
        return Tables.joined([])

    prepared = Prepared(settings, Sources(None, {}, True), None, None, None, features=None)
    monkeypatch.setattr(robustness, "prepare", lambda settings, reporter: prepared)
    monkeypatch.setattr(robustness, "scenario_tables", tables)
    monkeypatch.setattr(robustness, "results_of", lambda *_: as_results(made_results()))
    monkeypatch.setattr(robustness, "write_report", lambda results, folder: None)
    study_robustness(settings, quick, None)
    scenarios = [scenario for scenario, _ in asked]
    ensembles = {"mlp:ensemble=5", "mlp:gate,members=5", "sqrbm:members=5"}
    slow = {"ebrm", "ebrm:exact", "qbm", *ensembles} if quick else set()
    assert set(scenarios) == set(VARIANTS) - ({"small-50", "small-1000"} if quick else set())
    for scenario, methods in asked:
        elsewhere = set() if scenario == "small-1000" else {"ebrm:exact"}
        assert set(methods) == set(COMPARED) - slow - elsewhere
