"""TRL trains on refined rewards: real trainers, a few real steps, a policy made here."""

import asyncio
import pickle

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.conversations import reward_model
from fixtures.serving_client import serving
from fixtures.tiny_models import BOS, DECODER, EOS, PAD, classifier, save, tokenizer
from qbrm import EnergyRewardModel, RewardClient
from qbrm.energies import SemiQuantumRBM
from qbrm.errors import InputError
from qbrm.model.export.classifier import export_classifier
from qbrm.rlhf.trl import RewardFunction

trl = pytest.importorskip("trl", reason="TRL is an extra: pip install 'qbrm[trl]'")
pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = [{"prompt": f"question {number}"} for number in range(4)]
CHAT = [{"prompt": [{"role": "user", "content": f"question {number}"}]} for number in range(4)]


@pytest.fixture(scope="module")
def refined():
    torch.manual_seed(1)
    score = SemiQuantumRBM(16, hidden=4)
    torch.nn.init.normal_(score.W)
    torch.nn.init.normal_(score.u)
    return EnergyRewardModel(reward_model(), score)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    return str(save(tmp_path_factory.mktemp("policy"), LlamaForCausalLM(config)))


class Recorded(RewardFunction):
    """Remembers what it was asked and what it answered."""

    def __init__(self, model):
        super().__init__(model)
        self.calls = []

    def __call__(self, prompts, completions, **columns):
        rewards = super().__call__(prompts, completions, **columns)
        self.calls.append((prompts, completions, rewards))
        return rewards


def train(kind, policy, reward, rows, folder, **options):
    """Three steps of a trainer; gives the trainer."""
    from datasets import Dataset

    settings = getattr(trl, f"{kind}Config")(
        output_dir=str(folder),
        **{"max_steps": 3, **options},
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=6,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=policy,
        reward_funcs=reward,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("rows", [TEXT, CHAT], ids=["text", "chat"])
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_policy_is_trained_on_the_refined_rewards_of_what_it_writes(kind, rows, refined, policy, tmp_path):
    reward = Recorded(refined)
    trainer = train(kind, policy, reward, rows, tmp_path)
    logged = [row["rewards/qbrm/mean"] for row in trainer.state.log_history if "rewards/qbrm/mean" in row]
    assert logged == pytest.approx([sum(rewards) / len(rewards) for _, _, rewards in reward.calls], abs=1e-5)
    assert len(logged) == 3
    spread = [
        [row[f"qbrm/{name}"] for name in ("quantile_0.05", "quantile_0.5")] for row in trainer.state.log_history[:3]
    ]
    assert all(low < middle for low, middle in spread)
    before = LlamaForCausalLM.from_pretrained(policy).state_dict()
    assert any(not torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    prompts, completions, rewards = reward.calls[-1]
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    assert rewards == refined.score(prompts, texts).refined.tolist()


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_trainer_awaits_the_rewards_of_a_server(kind, refined, policy, tmp_path):
    pytest.importorskip("fastapi")
    with serving(refined) as server:
        rewards = [RewardClient(server.url, "served"), RewardFunction(refined)]
        trainer = train(kind, policy, rewards, CHAT, tmp_path, max_steps=1)
    row = next(row for row in trainer.state.log_history if "rewards/qbrm/mean" in row)
    for one, other in [("rewards/served/mean", "rewards/qbrm/mean"), ("served/base", "qbrm/base")]:
        assert row[one] == pytest.approx(row[other], abs=1e-5)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_an_exported_model_gives_a_trainer_the_same_rewards_by_its_path(kind, refined, policy, tmp_path):
    export_classifier(refined, tmp_path / "exported")
    rewards = [str(tmp_path / "exported"), RewardFunction(refined)]
    trainer = train(kind, policy, rewards, CHAT, tmp_path, max_steps=1, trust_remote_code=True)
    row = next(row for row in trainer.state.log_history if "rewards/qbrm/mean" in row)
    assert row["rewards/exported/mean"] == pytest.approx(row["rewards/qbrm/mean"], abs=1e-5)
    assert row["rewards/exported/std"] == pytest.approx(row["rewards/qbrm/std"], abs=1e-5)


def test_online_dpo_ranks_its_pairs_by_refined_rewards(refined, policy, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    reward = Recorded(refined)
    settings = OnlineDPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        max_new_tokens=6,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = OnlineDPOTrainer(
        model=LlamaForCausalLM.from_pretrained(policy),
        reward_funcs=reward,
        args=settings,
        train_dataset=Dataset.from_list(CHAT),
        processing_class=tokenizer(padding_side="left"),
    )
    trainer.train()
    assert len(reward.calls) == 2
    assert all(len(prompts) == len(completions) == len(rewards) == 4 for prompts, completions, rewards in reward.calls)


def test_rewards_of_text_and_of_chat_messages_are_the_same(refined):
    reward = RewardFunction(refined)
    text = reward(prompts=["Why?"], completions=["So."])
    chat = reward(
        prompts=[[{"role": "user", "content": "Why?"}]],
        completions=[[{"role": "assistant", "content": "So."}]],
        completion_ids=[[1]],
        trainer_state=None,
    )
    parts = reward(
        prompts=["Why?"], completions=[[{"role": "assistant", "content": [{"type": "text", "text": "So."}]}]]
    )
    assert text == chat == parts
    assert isinstance(text[0], float)


CALLS = (
    "<bos>{% for message in messages %}<{{ message['role'] }}>{{ message['name'] }}{{ message['reasoning_content'] }}"
    "{{ message['content'] or '' }}{% for call in message['tool_calls'] or [] %}{{ call['function']['name'] }}"
    "{{ call['function']['arguments'] | tojson }}{% endfor %}<eos>{% endfor %}"
)
ASKED = [{"role": "user", "content": "2 times 3?"}]


def rollout(function="multiply", last="It is 6.", result="6", reasoning=None, **arguments):
    """What TRL passes of a policy that called a tool."""
    call = {"type": "function", "function": {"name": function, "arguments": arguments or {"a": 2, "b": 3}}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    said = {"role": "assistant", "content": last, "reasoning_content": reasoning}
    return [called, {"role": "tool", "name": function, "content": result}, said]


@pytest.fixture(scope="module")
def calling(refined):
    """A refined model whose chat template writes tool calls."""
    return EnergyRewardModel(reward_model(tok=tokenizer(CALLS)), refined.energy_score)


@pytest.mark.parametrize(
    "completion",
    [
        rollout("delete"),
        rollout(a=4, b=5),
        rollout(result="7"),
        rollout(reasoning="Hm."),
        rollout()[:1],
        rollout("x")[:1],
    ],
    ids=["other function", "other arguments", "other result", "reasoning", "only a call", "only another call"],
)
def test_a_reward_is_of_the_conversation_as_the_template_writes_all_of_it(calling, completion):
    logged = {}
    RewardFunction(calling)([ASKED], [completion], log_metric=logged.__setitem__)
    known = [{key: value for key, value in message.items() if value is not None} for message in completion]
    inputs = tokenizer(CALLS).apply_chat_template([*ASKED, *known], return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        expected = classifier()(inputs["input_ids"]).logits.item()
    assert logged["qbrm/base"] == pytest.approx(expected, abs=1e-5)
    others = RewardFunction(calling)([ASKED] * 2, [rollout(), completion])
    assert others[0] != pytest.approx(others[1], abs=1e-4)


def test_a_rollout_cut_off_behind_a_tools_result_is_scored_to_the_policys_last_words(calling):
    reward = RewardFunction(calling)
    cut_off, until_the_call = reward([ASKED] * 2, [rollout()[:2], rollout()[:1]])
    as_if_said = reward([[*ASKED, rollout()[0]]], ["6"])
    assert cut_off == pytest.approx(until_the_call, abs=1e-6)
    assert cut_off != pytest.approx(as_if_said[0], abs=1e-4)


def test_a_server_is_sent_the_calls_too_and_gives_the_same_rewards(calling):
    pytest.importorskip("fastapi")
    batch = [ASKED] * 4, [rollout(), rollout("delete"), rollout()[:2], rollout(reasoning="Hm.")]
    with serving(calling) as server:
        served = asyncio.run(RewardClient(server.url)(*batch))
    assert served == pytest.approx(RewardFunction(calling)(*batch), abs=1e-5)


def test_a_completion_in_which_only_a_tool_speaks_is_refused(calling):
    with pytest.raises(InputError, match="no message of the assistant"):
        RewardFunction(calling)([ASKED], [rollout()[1:2]])


def test_the_last_of_several_messages_is_the_answer_to_those_before(refined):
    reward = RewardFunction(refined)
    turns = [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Well?"}]
    several = reward(prompts=["Why?"], completions=[[*turns, {"role": "assistant", "content": "So."}]])
    prompt = [{"role": "user", "content": "Why?"}, *turns]
    assert several == refined.score([prompt], ["So."]).refined.tolist()


def test_trl_shows_it_by_name_and_may_send_it_to_another_process(refined):
    reward = RewardFunction(refined, name="helpful")
    assert reward.__name__ == "helpful"
    again = pickle.loads(pickle.dumps(reward))
    assert again(["Why?"], ["So."]) == reward(["Why?"], ["So."])


@pytest.mark.parametrize(
    ("prompts", "completions"),
    [(["a", "b"], ["x"]), (["a"], [[]]), (["a"], [[{"role": "assistant", "content": 3}]]), ([7], ["x"])],
    ids=["lengths", "no message", "a number", "no prompt"],
)
def test_what_is_neither_text_nor_messages_is_refused(refined, prompts, completions):
    with pytest.raises(InputError):
        RewardFunction(refined)(prompts, completions)
