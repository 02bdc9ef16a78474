"""Rewards of any kind as one function: those of a reward model as it is, and those of a refined one."""

import json
from pathlib import Path

import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.tiny_models import classifier, own_logit, save, tokenizer
from qbrm import EnergyRewardModel
from qbrm.energies import SemiQuantumRBM
from qbrm.errors import InputError
from qbrm.preferences import Message
from qbrm.reward_models import REWARD_MODELS, load_reward_model
from qbrm_lab.policies.rewards import load_judge

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT, RESPONSE = "Is it far?", "No, it is near."


@pytest.fixture
def reward_model(tmp_path):
    return str(save(tmp_path / "rm"))


def test_a_reward_model_gives_its_own_rewards(reward_model):
    logit, _ = own_logit(classifier(), tokenizer(), [Message("user", PROMPT)], RESPONSE)
    assert load_judge(reward_model).rewards([PROMPT], [RESPONSE]) == pytest.approx(logit.tolist(), abs=1e-5)


def test_a_refined_one_gives_refined_rewards_and_another_identity(reward_model, tmp_path):
    torch.manual_seed(0)
    base = load_reward_model(reward_model)
    score = SemiQuantumRBM(base.dim, hidden=4)
    torch.nn.init.normal_(score.W)
    torch.nn.init.normal_(score.u)
    model = EnergyRewardModel(base, score)
    model.save_pretrained(tmp_path / "refined")
    judge, base = (load_judge(name) for name in (str(tmp_path / "refined"), reward_model))
    refined = judge.rewards([PROMPT], [RESPONSE])
    assert refined == pytest.approx(model.score([PROMPT], [RESPONSE]).refined.tolist())
    assert refined != pytest.approx(base.rewards([PROMPT], [RESPONSE]), abs=1e-3)
    assert judge.identity != base.identity


def test_a_model_without_rewards_is_refused_when_it_is_loaded(monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    with pytest.raises(InputError, match="fake gives no rewards"):
        load_judge("fake")


def test_what_is_a_refined_model_is_told_as_everywhere(reward_model):
    config = Path(reward_model) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "refinement": "of its own kind"}))
    assert len(load_judge(reward_model).rewards([PROMPT], [RESPONSE])) == 1
