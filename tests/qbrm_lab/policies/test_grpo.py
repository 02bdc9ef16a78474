"""A policy trained by TRL on rewards: what it is rewarded for, what is noted, and going on after a kill."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.tiny_models import BOS, DECODER, EOS, PAD, save, tokenizer
from qbrm.errors import InputError
from qbrm.preferences import Message

pytest.importorskip("trl", reason="TRL is an extra: pip install 'qbrm[trl]'")
pytest.importorskip("peft", reason="peft is an extra: pip install 'qbrm[hf]'")

from qbrm_lab.policies.completions import read_completions
from qbrm_lab.policies.grpo import CHECKPOINTS, COMPLETIONS, PolicyPrompts, PolicyTraining, train_policy

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = PolicyPrompts(
    *([(Message("user", f"{kind} {number}"),) for number in range(3)] for kind in ("asked", "kept"))
)
TRAINING = PolicyTraining(
    steps=4, group=4, completion_tokens=6, measurements=3, held_out_completions=2, checkpoint_steps=1, rank=2
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)  # as made, it is uniform whatever its layers say
    return save(tmp_path_factory.mktemp("policy"), model, tokenizer())


def plain_letters(prompts, responses):
    """About half of the tokens of an untrained policy are parts of other characters."""
    return [float(sum(letter < "\x80" for letter in response)) for response in responses]


class Killed(BaseException):
    pass


def killed_at(call):
    calls = iter(range(100))

    def rewards(prompts, responses):
        if next(calls) == call:
            raise Killed
        return plain_letters(prompts, responses)

    return rewards


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_policy(base, PROMPTS, plain_letters, folder, TRAINING, 0)


def test_every_completion_is_noted_with_the_reward_that_it_had(whole):
    folder, trained = whole
    assert trained.completions == read_completions(folder / COMPLETIONS)
    for row in trained.completions:
        assert row.reward == plain_letters([None], [row.text])[0]
        assert 0 < row.tokens <= 6
    by_step = {step: [row for row in trained.completions if row.step == step] for step in range(5)}
    held_out = [sorted(row.prompt for row in rows if row.held_out) for rows in by_step.values()]
    assert held_out == [[0, 0, 1, 1, 2, 2], [], [0, 0, 1, 1, 2, 2], [], [0, 0, 1, 1, 2, 2]]
    training = [[row.prompt for row in rows if not row.held_out] for rows in by_step.values()]
    assert [len(rows) for rows in training] == [4, 4, 4, 4, 0]
    assert all(len(set(rows)) == 1 for rows in training[:4])
    assert [update.step for update in trained.updates] == [1, 2, 3, 4]
    assert trained.updates[0].kl == pytest.approx(0, abs=1e-6)
    assert trained.updates[-1].kl > 0


@pytest.mark.parametrize("call", [2, 5])
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_been(call, base, whole, tmp_path):
    with pytest.raises(Killed):
        train_policy(base, PROMPTS, killed_at(call), tmp_path, TRAINING, 0)
    (tmp_path / CHECKPOINTS / "checkpoint-9").mkdir()  # cut short in writing
    assert train_policy(base, PROMPTS, plain_letters, tmp_path, TRAINING, 0) == whole[1]


def test_a_finished_training_is_read_and_another_is_refused(base, whole):
    folder, trained = whole
    assert train_policy(base, PROMPTS, lambda *given: pytest.fail("again"), folder, TRAINING, 0) == trained
    with pytest.raises(InputError, match="expected a new --out"):
        train_policy(base, PROMPTS, plain_letters, folder, TRAINING, 1)


def test_a_rewarded_habit_is_learned(base, tmp_path):
    training = PolicyTraining(
        steps=12, group=8, completion_tokens=8, measurements=2, held_out_completions=8, learning_rate=2e-2, rank=4
    )
    trained = train_policy(base, PROMPTS, plain_letters, tmp_path, training, 0)
    start, end = ([row.reward for row in trained.completions if row.held_out and row.step == step] for step in (0, 12))
    assert sum(end) > 1.3 * sum(start)
