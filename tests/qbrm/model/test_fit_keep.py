"""`EnergyRewardModel.fit(..., keep=...)`: an order that is to stay, from a source to the verdict."""

import numpy as np
import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm import EnergyRewardModel
from qbrm.errors import InputError
from qbrm.model.kept import pairs_to_keep
from qbrm.preferences.digest import prompt_digests
from qbrm.preferences.unlabelled import responses_of

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"score": "sqrbm", "hidden": 4, "epochs": 2}


@pytest.fixture(autouse=True)
def whole_strength(monkeypatch):
    """Apply the correction as a whole, without the trainings that would say how far to go."""
    monkeypatch.setattr("qbrm.model.judged_fit.JudgedFit._guarantee", lambda *given: None)


@pytest.fixture
def prefs(tmp_path):
    return write_preferences(tmp_path / "prefs.jsonl", 0, 48)


@pytest.fixture
def records(tmp_path):
    rows = read_lines(write_preferences(tmp_path / "kept.jsonl", 100, 30))
    return [{"prompt": row["prompt"], "responses": [row["chosen"], *row["rejected"]]} for row in rows]


def fit(prefs, keep, encoder=None, **options):
    return EnergyRewardModel.fit(encoder or FakeEncoder(reward=1), prefs, keep=keep, **QUICK | options)


@pytest.mark.parametrize("reward", [1, None])
def test_the_verdict_counts_the_pairs_of_a_fifth_of_the_kept_prompts(prefs, records, reward):
    model = fit(prefs, records, FakeEncoder(reward=reward))
    kept = model.verdict["keep"]
    assert kept["name"] == "responses to keep"
    assert kept["prompts"] == 6
    mean, low, high = kept["unchanged"]
    assert 0 <= low <= mean <= high <= 1
    assert "is unchanged." in model.verdict["sentence"]
    assert set(prompt_digests(responses_of(records).prompt_ids)) <= set(model.training_prompts)


def test_labels_of_what_is_to_be_kept_change_nothing(prefs, tmp_path):
    rows = read_lines(write_preferences(tmp_path / "kept.jsonl", 100, 30))
    turned = [{**row, "chosen": row["rejected"][0], "rejected": [row["chosen"], *row["rejected"][1:]]} for row in rows]
    counts = [fit(prefs, source).verdict["keep"]["pairs"] for source in (rows, turned)]
    assert counts[0] == counts[1]


def test_a_gate_that_knows_what_to_keep_comes_back_from_disk(prefs, records, tmp_path, monkeypatch):
    model = fit(prefs, records, FakeEncoder(reward=-1), epochs=20)
    encoder = FakeEncoder(reward=-1)
    monkeypatch.setattr("qbrm.model.persistence.load_reward_model", lambda *given, **options: encoder)
    model.save_pretrained(tmp_path / "model")
    again = EnergyRewardModel.from_pretrained(tmp_path / "model")
    assert again.energy_score.gate.rank == model.energy_score.gate.rank
    embedding = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32))
    expected = model.energy_score.familiarity(embedding)
    torch.testing.assert_close(again.energy_score.familiarity(embedding), expected, rtol=0, atol=0)
    assert "is unchanged." in (tmp_path / "model" / "README.md").read_text()


def test_a_model_that_keeps_an_order_has_a_gate_and_says_so(prefs, records):
    model = fit(prefs, records, FakeEncoder(reward=-1), epochs=20)
    assert model.verdict["score"] == "sqrbm:gate"
    assert model.provenance.settings["gate"]
    assert [part.role for part in model.provenance.data][-1] == "is to keep its order"


def test_what_is_to_be_kept_is_embedded_once(prefs, records, tmp_path):
    first, second = FakeEncoder(reward=1), FakeEncoder(reward=1)
    fit(prefs, records, first, out=tmp_path / "out")
    assert (tmp_path / "out" / "keep" / "manifest.json").exists()
    fit(prefs, records, second, out=tmp_path / "out")
    assert first.calls > 0
    assert second.calls == 0


def test_prompts_with_preferences_are_not_kept(prefs, records):
    with pytest.raises(InputError, match="has 0 prompts with two or more different responses"):
        fit(prefs, prefs)
    assert fit(prefs, [*read_lines(prefs), *records]).verdict["keep"]["prompts"] == 6


def test_responses_alone_on_their_prompts_have_no_order(prefs, records):
    alone = [{"prompt": row["prompt"], "response": row["responses"][0]} for row in records]
    with pytest.raises(InputError, match="has 0 prompts with two or more different responses"):
        fit(prefs, alone)


def test_a_score_that_learns_no_preferences_keeps_no_order(prefs, records):
    with pytest.raises(InputError, match="score ebrm keeps no order"):
        EnergyRewardModel.fit(FakeEncoder(reward=1), prefs, keep=records, score="ebrm")


def test_pairs_to_keep_are_all_pairs_of_a_prompt_unless_it_has_very_many():
    few = responses_of([{"prompt": "a", "responses": ["1", "2", "3", "3"]}, {"prompt": "b", "response": "1"}])
    assert len(pairs_to_keep(few)) == 3
    many = responses_of([{"prompt": "a", "responses": [str(number) for number in range(100)]}])
    pairs = pairs_to_keep(many)
    assert len(set(pairs)) == len(pairs) == 100 * 32 - 32 * 33 // 2


def test_a_bad_line_to_keep_is_named_before_anything_is_embedded(command, prefs, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "Tea?", "responses": []}\n')
    code, _, error = command("fit", prefs, "--keep", tmp_path / "bad.jsonl", "--out", tmp_path / "out")
    assert code == 2
    assert 'bad.jsonl, line 1: "responses" is empty; expected one or more responses.' in error
    assert not (tmp_path / "out").exists()
