"""The study of policies: its intervals by hand, and the whole of it on models made here."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.preference_files import write_preferences
from fixtures.tiny_models import BOS, DECODER, EOS, PAD, classifier, save, tokenizer
from qbrm.cli.console import Reporter
from qbrm.errors import InputError

pytest.importorskip("trl", reason="TRL is an extra: pip install 'qbrm[trl]'")
pytest.importorskip("peft", reason="peft is an extra: pip install 'qbrm[hf]'")

from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.policies.completions import Written
from qbrm_lab.policies.grpo import PolicyTraining
from qbrm_lab.policies.rewards import Judge, load_judge
from qbrm_lab.studies import grpo
from qbrm_lab.studies.grpo import Judged, PolicyStudy, Run, named_rewards, study_grpo

pytestmark = pytest.mark.usefixtures("one_thread")


def judged(name, seed, rewards):
    """A policy whose two prompts are answered twice each at the steps 0 and 4."""
    places = [(step, prompt) for step in (0, 4) for prompt in (0, 0, 1, 1)]
    rows = [Written(step, True, prompt, "text", 3, 0.0) for step, prompt in places]
    return Run(name, seed), Judged([], rows, [], {"base": np.array(rewards, float)}, None)


def test_changes_are_means_by_prompt_held_against_the_first_step():
    run, policy = judged("base", 0, [0, 2, 4, 6, 5, 5, 6, 8])
    rows = {(row.seed, row.step): row for row in grpo._rows({run: policy}, 0)}
    start, end = rows[0, 0], rows[0, 4]
    assert (start.mean[0], start.change, start.in_deviations) == (3, (0, 0, 0), 0)
    assert (end.mean[0], end.change) == (6, (3, 2, 4))  # prompt 0 gains 4, prompt 1 gains 2
    assert end.in_deviations == pytest.approx(3 / math.sqrt(5))
    assert rows[None, 4].change == end.change


def test_seeds_are_averaged_prompt_by_prompt():
    policies = dict(
        judged("base", seed, [0, 0, 0, 0, *gains]) for seed, gains in enumerate([(2, 2, 0, 0), (0, 0, 2, 2)])
    )
    mean = next(row for row in grpo._rows(policies, 0) if row.seed is None and row.step == 4)
    assert mean.change == (1, 1, 1)


def test_rewards_are_compared_by_the_changes_of_the_same_prompts():
    policies = dict([judged("base", 0, [1, 1, 2, 2, 3, 3, 2, 2])])
    other, values = judged("refined", 0, [0, 0, 5, 5, 3, 3, 6, 6])
    policies[other] = values
    (row,) = grpo._compared(policies, 0)
    assert (row.rewarded_by, row.against, row.difference) == ("refined", "base", (1, 1, 1))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["base"], "'base'; expected NAME=MODEL"),
        (["base=a", "base=b"], "'base' twice"),
        (["gold=a"], "'gold'"),
        (["tokens=a"], "'tokens'"),
        (["../base=a"], "'../base=a'"),
    ],
)
def test_rewards_that_have_no_name_of_their_own_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        named_rewards("--rewards", names)


def test_a_policy_that_is_none_is_refused_in_one_line(study, tmp_path):
    settings = ComparisonSettings(write_preferences(tmp_path / "prefs.jsonl", 0, 30), tmp_path / "out", seeds=1)
    with pytest.raises(InputError, match="is no folder of a language model"):
        study_grpo(settings, replace(study, policy=tmp_path), Reporter.silent())
    with pytest.raises(InputError, match="--rewards is missing"):
        study_grpo(settings, replace(study, rewards={}), Reporter.silent())


@pytest.fixture
def study(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    policy = save(tmp_path / "policy", LlamaForCausalLM(config), tokenizer())
    models = [str(save(tmp_path / f"rm-{seed}", classifier(seed=seed))) for seed in range(3)]
    training = PolicyTraining(
        steps=2, group=2, completion_tokens=6, measurements=2, held_out_completions=2, learning_rate=1e-2, rank=2
    )
    rewards = {"base": models[0], "refined": models[1]}
    return PolicyStudy(rewards, gold=models[2], policy=policy, training=training, held_out=4)


def test_the_study_judges_every_policy_by_all_rewards_and_goes_on_where_it_stopped(study, tmp_path, monkeypatch):
    settings = ComparisonSettings(
        write_preferences(tmp_path / "prefs.jsonl", 0, 30), tmp_path / "out", seeds=2, command="qbrm study grpo"
    )
    page = study_grpo(settings, study, Reporter()).read_text()
    content = json.loads((settings.out / "grpo.json").read_text())
    measures = {row["measure"] for row in content["rows"]}
    assert {"base", "refined", "gold", "tokens", "repetition", "probe_like"} <= measures
    places = {(row["rewarded_by"], row.get("seed"), row["step"]) for row in content["rows"]}
    assert places == {(name, seed, step) for name in ("base", "refined") for seed in (0, 1, None) for step in (0, 2)}
    starts = [
        row["mean"] for row in content["rows"] if (row["step"], row.get("seed"), row["measure"]) == (0, 0, "gold")
    ]
    assert starts[0] == starts[1]  # with one seed, policies begin with the same answers
    assert len(content["updates"]) == 8
    assert all("gold" in row for row in content["updates"])
    assert "rewarded by `refined`" in page
    assert "The gold reward model is right" not in page  # a bare one has no verdict
    assert (settings.out / "grpo.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr("qbrm_lab.policies.grpo._train", lambda *given: pytest.fail("trained again"))
    assert study_grpo(settings, study, Reporter()).read_text() == page
    with pytest.raises(InputError, match="expected a new --out"):
        study_grpo(settings, replace(study, training=replace(study.training, steps=3)), Reporter())


def test_the_page_says_how_often_gold_is_right_where_its_verdict_tells(study, tmp_path, monkeypatch):
    verdict = {"test": {"pairs": 236}, "refined": {"accuracy": 0.7754}, "length_accuracy": 0.8814}

    def judged(model):
        identity, rewards, _ = load_judge(model)
        return Judge(identity, rewards, verdict if model == study.gold else None)

    monkeypatch.setattr("qbrm_lab.studies.grpo.load_judge", judged)
    settings = ComparisonSettings(write_preferences(tmp_path / "prefs.jsonl", 0, 30), tmp_path / "out", seeds=1)
    page = study_grpo(settings, replace(study, rewards={"base": study.rewards["base"]}), Reporter.silent()).read_text()
    assert "The gold reward model is right in 77.5% of 236 pairs that it has not seen" in page
    assert "response is better is right in 88.1% of them" in page
