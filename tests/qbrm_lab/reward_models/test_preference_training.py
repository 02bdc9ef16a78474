"""TRL's trainer makes reward models that this library reads, and goes on where it was stopped."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from fixtures.tiny_models import CONFIGS, save, tokenizer
from qbrm.errors import InputError
from qbrm.preferences.base import Message
from qbrm.reward_models import load_reward_model
from qbrm_lab.reward_models.preference_training import CHECKPOINTS, RewardTraining, TextPair, train_reward_model

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = RewardTraining(pairs=64, max_length=40, batch_pairs=8, epochs=4, learning_rate=2e-2, checkpoint_steps=10)


def pair(number, good="aaaa", bad="bbbb"):
    return TextPair((Message("user", f"ask {number}"),), f"{good} {number}", f"{bad} {number}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("base"), LlamaForCausalLM(CONFIGS["llama"]()), tokenizer())


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    pairs = [pair(number) for number in range(64)]
    return train_reward_model(base, pairs, tmp_path_factory.mktemp("trained"), SETTINGS, seed=0)


def test_a_trained_model_ranks_pairs_that_it_has_not_seen(trained):
    model = load_reward_model(str(trained))
    held_out = [pair(number) for number in range(70, 80)]
    prompts = [item.prompt for item in held_out]
    good, bad = (model.embed(prompts, texts).reward for texts in zip(*[item[1:] for item in held_out], strict=True))
    assert (good > bad).all()


def test_a_training_that_was_stopped_ends_with_the_same_weights(base, trained, tmp_path):
    def stop(done, total):
        if done == 15:
            raise KeyboardInterrupt

    pairs = [pair(number) for number in range(64)]
    with pytest.raises(KeyboardInterrupt):
        train_reward_model(base, pairs, tmp_path, SETTINGS, seed=0, advance=stop)
    assert not (tmp_path / "model.safetensors").exists()
    steps = []
    train_reward_model(base, pairs, tmp_path, SETTINGS, seed=0, advance=lambda done, total: steps.append(done))
    assert steps[0] == 11  # after the checkpoint of step 10
    expected, got = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_finished_folder_is_left_as_it_is_and_taken_for_nothing_else(base, trained):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    pairs = [pair(number) for number in range(64)]
    train_reward_model(base, pairs, trained, SETTINGS, seed=0)
    for other in ({"pairs": pairs[1:]}, {"seed": 1}, {"settings": replace(SETTINGS, rank=8)}):
        with pytest.raises(InputError, match="has a training on other texts, or with other settings"):
            train_reward_model(base, **{"pairs": pairs, "out": trained, "settings": SETTINGS, "seed": 0} | other)
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_pairs_with_a_text_that_is_too_long_are_left_out(base, tmp_path):
    pairs = [pair(1, good="a" * 60), *[pair(number) for number in range(2, 6)]]
    steps = []
    few = replace(SETTINGS, batch_pairs=1, epochs=1)
    train_reward_model(base, pairs, tmp_path, few, seed=0, advance=lambda done, total: steps.append(total))
    assert steps[0] == 4
    assert (tmp_path / CHECKPOINTS).is_dir()
