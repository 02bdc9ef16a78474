"""Reward models of a tiny language model, and what each has not seen."""

import json
from dataclasses import replace

import pytest
from transformers import LlamaForCausalLM

from fixtures.preference_files import write_preferences as write_made_up
from fixtures.tiny_models import CONFIGS, save, tokenizer
from qbrm.cli.console import Reporter
from qbrm.preferences import Message, Preference, PreferenceSet, read_preferences
from qbrm.preferences.base import Completion
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.preference_lines import write_preferences
from qbrm_lab.studies import reward_models
from qbrm_lab.studies.best_of_n.candidates import Candidates, Pool
from qbrm_lab.studies.reward_models import RECIPES, REFINE, TEST, study_reward_models

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def test_preferences_are_read_back_as_they_were_written(tmp_path):
    turns = (Message("system", "Be brief."), Message("user", "Hello\nthere"))
    call = Completion((Message("assistant", "", '{"content": null, "tool_calls": [{"name": "time"}]}'),))
    preferences = PreferenceSet(
        "made up",
        (
            Preference("1", turns, "Hi é", ("Go away",), "chat/greeting", "pairwise"),
            Preference("2", turns[1:], call, ("no", "never"), "tools", "bon"),
        ),
    )
    read = read_preferences(write_preferences(tmp_path / "lines.jsonl", preferences))
    assert [replace(item, place="") for item in read] == list(preferences)


def test_rejected_responses_that_equal_the_chosen_one_are_not_written(tmp_path):
    prompt = (Message("user", "True?"),)
    preferences = PreferenceSet(
        "RMB has such",
        (
            Preference("1", prompt, "yes", ("yes", "no"), "facts", "bon"),
            Preference("2", prompt, "yes", ("yes",), "facts", "pairwise"),
        ),
    )
    (read,) = read_preferences(write_preferences(tmp_path / "lines.jsonl", preferences))
    assert read.rejected == ("no",)


@pytest.fixture
def studied(tmp_path, monkeypatch):
    def tiny(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return save(folder, LlamaForCausalLM(CONFIGS["llama"]()), tokenizer())

    monkeypatch.setattr(reward_models, "smollm2_folder", tiny)
    monkeypatch.setattr(reward_models, "MAX_LENGTH", 256)
    lines = [json.loads(line) for line in write_made_up(tmp_path / "all.jsonl", 0, 60).read_text().splitlines()]
    for number, line in enumerate(lines):
        line["category"] = "Large/a" if number % 3 else "Small/b"
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = ComparisonSettings(tmp_path / "all.jsonl", tmp_path / "out", command="qbrm study reward-models")
    return study_reward_models(settings, True, Reporter.silent()).parent


def test_no_reward_model_has_seen_the_test_or_what_it_is_refined_with(studied):
    table = json.loads((studied / "reward_models.json").read_text())
    assert [row["name"] for row in table["rows"]] == list(RECIPES)
    assert all(row["ci_low"] <= row["accuracy"] <= row["ci_high"] for row in table["rows"])
    test = set(read_preferences(studied / TEST).prompt_ids)
    left = {name: set(read_preferences(studied / name / REFINE).prompt_ids) for name in RECIPES if name != "all"}
    assert not (studied / "all" / REFINE).exists()
    assert len(test) == 12
    assert not any(test & prompts for prompts in left.values())
    assert len(left["half"]) == 24
    assert left["half"] == left["noise"]
    assert {item.category for item in read_preferences(studied / "domain" / REFINE)} == {"Small/b"}


@pytest.mark.parametrize("flipped", [0.0, 0.25])
def test_a_share_of_the_labels_is_flipped(flipped):
    preferences = PreferenceSet(
        "many",
        tuple(
            Preference(str(n), (Message("user", str(n)),), f"good {n}", (f"bad {n}",), "all", "pairwise")
            for n in range(1000)
        ),
    )
    pairs = reward_models._text_pairs(preferences, flipped, seed=0)
    assert sum(pair.chosen.startswith("bad") for pair in pairs) / 1000 == pytest.approx(flipped, abs=0.04)


def test_pairs_of_a_judge_differ_in_gold_by_half_or_more():
    responses = Preference("1", (Message("user", "Which?"),), "a", ("b", "c", "a"), "all", "bon")
    found = reward_models.gold_preferences(Candidates("judged", (Pool(responses, (0.9, 0.4, 0.2, 0.3)),)), seed=0)
    assert sorted((item.chosen, *item.rejected) for item in found) == [("a", "b"), ("a", "c")]
    many = Preference("2", (Message("user", "Which?"),), "0", tuple(map(str, range(1, 9))), "all", "bon")
    pool = Pool(many, tuple(float(number) for number in range(9)))
    assert len(reward_models.gold_preferences(Candidates("judged", (pool,)), seed=0)) == reward_models.PAIRS_PER_PROMPT
