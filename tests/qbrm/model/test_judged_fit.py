"""Fitting with a verdict: which prompts do what, what is kept to resume from, and what the command writes."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.feature_folders import DIM, windows_of, write_table
from fixtures.preference_files import read_lines, write_preferences
from fixtures.tiny_models import save
from qbrm import EnergyRewardModel
from qbrm.energies import Residual
from qbrm.errors import InputError
from qbrm.features.pair_list import read_pairs, write_pair_list
from qbrm.features.stream import open_sources
from qbrm.features.table import FeatureTable
from qbrm.model import division as divided
from qbrm.model.division import Division
from qbrm.model.hardened import HardeningHacks
from qbrm.model.judged_fit import JudgedFit
from qbrm.model.score_choice import ScoreChoice
from qbrm.selection import BASE, CANDIDATES
from qbrm.selection.candidates import Family

pytestmark = pytest.mark.usefixtures("one_thread", "small_blocks")
PROMPTS = 300
QUICK = ScoreChoice("residual", epochs=25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("features"))


def choose_among_few(monkeypatch):
    few = tuple(c for c in CANDIDATES if c.family in (None, Family("residual")) and not c.gate)
    monkeypatch.setattr("qbrm.selection.cross_validation.CANDIDATES", few)
    monkeypatch.setattr("qbrm.selection.candidates.LEAST_STEPS", 80)


@pytest.fixture
def few_candidates(monkeypatch):
    """The base and one family, briefly trained, so that a choice takes a second."""
    choose_among_few(monkeypatch)


def fit(place, named=QUICK, **options):
    return JudgedFit(open_sources([place]), named, **options)


@pytest.fixture(scope="module")
def quick(folder):
    """A score by name, fitted once, and what it was fitted by."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("qbrm.features.stream.BLOCK_PAIRS", 16)
        given = fit(folder)
        return given, given.run()


@pytest.fixture(scope="module")
def chosen(folder, tmp_path_factory):
    """A score that was chosen among few, once, and where the losses of all are kept."""
    kept = tmp_path_factory.mktemp("chosen")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("qbrm.features.stream.BLOCK_PAIRS", 16)
        choose_among_few(monkeypatch)
        return kept, fit(folder, None, folder=kept).run()


def states(judged):
    return judged.score.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def shares(division):
    return [share for share in (division.test, division.vouching, division.training) if share is not None]


@pytest.mark.parametrize("many", [10_000, 100])
def test_every_prompt_has_one_part_and_a_fifth_are_the_test(folder, monkeypatch, many):
    monkeypatch.setattr(divided, "MANY_PROMPTS", many)
    division = Division.of(open_sources([folder]), seed=3)
    parts = [set(division.pairs(share).prompts().tolist()) for share in shares(division)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == PROMPTS
    assert len(parts[0]) == PROMPTS // 5
    assert len(parts) == (3 if many == 100 else 2)
    assert set(division.pairs(division.validation).prompts().tolist()) < parts[-1]


def test_labels_of_the_test_change_nothing_but_the_verdict(folder, quick, tmp_path):
    turned = write_table(tmp_path / "turned")
    table = FeatureTable.open(turned)
    pairs = read_pairs(table)
    test = Division.of(open_sources([folder]), seed=0).test.holds(pairs.prompt)
    chosen = np.where(test, pairs.rejected, pairs.chosen)
    rejected = np.where(test, pairs.chosen, pairs.rejected)
    write_pair_list(table, pairs._replace(chosen=chosen, rejected=rejected))
    one, other = quick[1], fit(turned).run()
    assert_same(states(one), states(other))
    assert one.verdict.strength == other.verdict.strength > 0
    assert one.verdict.refined.accuracy == pytest.approx(1 - other.verdict.refined.accuracy, abs=0.02)


def test_the_verdict_is_what_the_saved_score_does_on_the_test(quick):
    given, judged = quick
    test = given.division.pairs(given.division.test).load()
    refined = judged.score.from_standard(judged.score.mode(judged.score.clamp(test.embedding, test.reward)))
    right = (refined[test.chosen] > refined[test.rejected]).float().mean()
    assert judged.verdict.refined.accuracy == pytest.approx(float(right), abs=1e-6)
    base = (test.reward[test.chosen] > test.reward[test.rejected]).float().mean()
    assert judged.verdict.base.accuracy == pytest.approx(float(base), abs=1e-6)
    assert judged.verdict.pairs == test.n_pairs
    assert judged.score.strength == judged.verdict.strength


@pytest.mark.parametrize("streamed", [True, False])
def test_hacks_of_validation_prompts_validate_and_train_nothing(folder, monkeypatch, streamed):
    """The pairs themselves stand for hacks."""
    if streamed:
        monkeypatch.setattr(Division, "fits_in_memory", lambda division, share: False)
    (source,) = sources = open_sources([folder])
    fit = JudgedFit(sources, QUICK, hardening=HardeningHacks(source, ("padding",)))
    harden, prompts = fit._fold(1).harden, source.pairs.prompt

    def count(share):
        return int(share.holds(prompts).sum())

    division = fit.division
    assert harden.validation.n_pairs == count(division.validation) > 0
    assert harden.training.n_pairs == count(division.training) - count(division.validation)


def test_what_vouches_for_the_strength_does_not_train(folder, monkeypatch):
    monkeypatch.setattr(divided, "MANY_PROMPTS", 100)
    given = fit(folder)
    judged = given.run()
    vouching = set(given.division.pairs(given.division.vouching).prompts().tolist())
    assert judged.guarantee.prompts == len(vouching) == 48
    assert not judged.guarantee.cross_fitted
    assert not vouching & set(given.division.pairs(given.division.training).prompts().tolist())


def test_where_prompts_are_few_each_is_judged_by_a_score_of_others(quick):
    guarantee = quick[1].guarantee
    assert guarantee.cross_fitted
    assert guarantee.prompts == PROMPTS * 4 // 5


@pytest.mark.parametrize("members", [1, 5])
def test_what_does_not_fit_into_memory_is_streamed(folder, monkeypatch, members):
    monkeypatch.setattr("qbrm.model.judged_fit.greatest_safe_strength", lambda difference: 1.0)
    few_passes = replace(QUICK, members=members, epochs=8)
    whole = fit(folder, few_passes).run()
    monkeypatch.setattr("qbrm.model.division.MEMORY_BYTES", windows_of(8))
    given = fit(folder, few_passes)
    assert not given.division.fits_in_memory(given.division.training)
    streamed = given.run()
    assert streamed.verdict.base == whole.verdict.base
    assert streamed.verdict.accuracy.mean == pytest.approx(whole.verdict.accuracy.mean, abs=0.1)


def test_a_choice_is_kept_and_not_made_again(folder, chosen, few_candidates, monkeypatch):
    place, first = chosen
    monkeypatch.setattr("qbrm.selection.cross_validation.train", lambda *_, **__: pytest.fail("trained again"))
    kept = fit(folder, None, folder=place)
    again, _ = kept._chosen()
    assert again.candidate == first.choice.candidate
    np.testing.assert_array_equal(again.loss, first.choice.loss)
    with pytest.raises(pytest.fail.Exception):  # another seed is another question
        fit(folder, None, folder=place, seed=1)._chosen()


def test_a_chosen_score_beats_the_base_here_and_is_used(chosen):
    _, judged = chosen
    assert judged.choice.candidate != BASE
    assert judged.guarantee.strength > 0
    assert judged.verdict.use
    assert judged.verdict.sentence.startswith("Use it: +")


def test_where_nothing_helps_the_tempered_base_is_saved(tmp_path, few_candidates):
    folder = write_table(tmp_path / "blind")
    table = FeatureTable.open(folder)
    pairs = read_pairs(table)
    flipped = np.random.default_rng(0).random(len(pairs.chosen)) < 0.5
    chosen, rejected = (
        np.where(flipped, a, b) for a, b in ((pairs.chosen, pairs.rejected), (pairs.rejected, pairs.chosen))
    )
    write_pair_list(table, pairs._replace(chosen=chosen, rejected=rejected))
    judged = fit(folder, None).run()
    assert isinstance(judged.score, Residual)
    assert judged.verdict.strength == 0
    assert judged.verdict.score == "base:tempered"
    assert judged.verdict.sentence.startswith("Do not refine")
    rows = torch.from_numpy(table.rows(list(table.keys())).embedding), torch.linspace(-2, 2, 900)
    torch.testing.assert_close(judged.score.from_standard(judged.score.mode(judged.score.clamp(*rows))), rows[1])


def test_too_few_prompts_are_one_line(tmp_path):
    with pytest.raises(InputError, match="9 prompts with pairs of different responses; expected at least 10"):
        fit(write_table(tmp_path, range(9))).run()


def test_preferences_become_a_model_with_a_verdict_in_one_command(qbrm_command, tmp_path, few_candidates):
    prefs, model = write_preferences(tmp_path / "prefs.jsonl", 0, 60), tmp_path / "model"
    with prefs.open("a") as file:
        file.write('{"prompt": "half a row"}\nnot JSON\n')
    arguments = "fit", prefs, "--reward-model", save(tmp_path / "rm"), "--out", model
    refused = qbrm_command(*arguments)
    assert refused.code == 2
    assert all(f"line {line}" in refused.err for line in (61, 62))
    assert not model.exists()
    fitted = qbrm_command(*arguments, "--skip-bad")
    assert fitted.code == 0
    verdict = json.loads((model / "verdict.json").read_text())
    assert verdict["schema"] == 1
    assert verdict["test"] == {"prompts": 12, "pairs": verdict["test"]["pairs"]}
    assert verdict["sentence"] in fitted.out
    assert set(verdict["candidates"]) == {"base:tempered", "residual", "residual:members=5"}
    assert verdict["sentence"] in (model / "README.md").read_text()
    assert "2 bad rows" in fitted.out
    loaded = EnergyRewardModel.from_pretrained(model)
    assert loaded.verdict == verdict
    assert (model / "features" / "manifest.json").is_file()
    before = {path.name: path.read_bytes() for path in model.glob("*.safetensors")}
    assert qbrm_command(*arguments, "--skip-bad").code == 0
    assert {path.name: path.read_bytes() for path in model.glob("*.safetensors")} == before


def test_the_method_gives_what_the_command_saves(command, tmp_path, few_candidates):
    prefs, rm = write_preferences(tmp_path / "prefs.jsonl", 0, 60), save(tmp_path / "rm")
    fitted = EnergyRewardModel.fit(rm, read_lines(prefs))
    command("fit", prefs, "--reward-model", rm, "--out", tmp_path / "model")
    saved = EnergyRewardModel.from_pretrained(tmp_path / "model")
    assert fitted.verdict == saved.verdict
    assert_same(fitted.energy_score.state_dict(), saved.energy_score.state_dict())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--score", "sqrmb"], "unknown score 'sqrmb'; did you mean 'sqrbm'"),
        (["--gate"], "gate is set, but the score is to be chosen; expected a score by name, or no gate."),
        (["--score", "ebrm", "--members", 5], "score ebrm takes no members"),
    ],
)
def test_options_that_do_not_fit_are_one_line(command, tmp_path, options, line):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 12)
    code, _, err = command("fit", prefs, "--out", tmp_path / "model", *options)
    assert code == 2
    assert line in err
    assert DIM == 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"members": 0}, "members is 0; expected a whole number of at least 1."),
        ({"epochs": 0}, "epochs is 0; expected a whole number of at least 1."),
        ({"hidden": 0}, "hidden is 0; expected a whole number of at least 1."),
        ({"score": None}, "score is None; expected 'auto' or the name of a score."),
        ({"seed": -1}, "seed is -1; expected a whole number from 0 to 4294967295."),
        ({"seed": 2**50}, "seed is 1125899906842624; expected a whole number from 0 to 4294967295."),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(tmp_path, options, line):
    prefs = read_lines(write_preferences(tmp_path / "prefs.jsonl", 0, 12))
    with pytest.raises(InputError, match=re.escape(line)):
        EnergyRewardModel.fit(save(tmp_path / "rm"), prefs, **{"score": "rbm"} | options)
