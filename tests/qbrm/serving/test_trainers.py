"""verl's and slime's clients get the reward of the conversation that their policy had.

Their requests and what they read of the answers are those of verl 0.9.1 (`RewardLoopWorker.compute_score_disrm`,
`NaiveRewardManager.run_single`) and of slime's `remote_rm`, neither of which installs beside the current transformers.
"""

import asyncio
import importlib.util
import inspect
from pathlib import Path

import aiohttp
import pytest

from fixtures.chat_templates import POLICIES
from fixtures.serving_client import serving
from qbrm.serving.settings import Limits

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "How do I boil an egg?"}
CONVERSATION = [SYSTEM, USER, {"role": "assistant", "content": "Six minutes."}, {"role": "user", "content": "Really?"}]
ANSWER = "Eight minutes, in boiling water."


@pytest.fixture(scope="module")
def served(one_thread):
    with serving(limits=Limits(responses=4, characters=1000)) as running:
        yield running


@pytest.fixture(scope="module")
def expected(served):
    return pytest.approx(float(served.model.score([CONVERSATION], [ANSWER]).refined[0]), abs=1e-5)


def post(served, path, payload):
    """As both clients do: with aiohttp, status raised, the body read as JSON."""

    async def main():
        async with aiohttp.ClientSession() as session, session.post(served.url + path, json=payload) as response:
            response.raise_for_status()
            return await response.json()

    return asyncio.run(main())


@pytest.mark.parametrize("policy", ["qwen 3", "llama 3.1", "mistral v7", "command-r", "deepseek v3", "gpt-oss"])
def test_verl_reads_the_reward_where_vllm_puts_a_classifiers_output(served, expected, policy):
    text = POLICIES[policy].prompt(CONVERSATION) + ANSWER + POLICIES[policy].end
    text = text.removeprefix("<|begin_of_text|>")  # as verl does with its tokenizer's beginning
    payload = {"model": "/models/a-reward-model", "input": text, "use_activation": False}
    output = post(served, "/classify", payload)
    assert output["data"][-1]["probs"][-1] == expected
    assert set(output) == {"id", "object", "created", "model", "data", "usage"}
    assert output["data"][0] == {"index": 0, "label": "LABEL_0", "probs": output["data"][0]["probs"], "num_classes": 1}


def test_several_conversations_and_messages_are_classified_too(served, expected):
    text = POLICIES["qwen 3"].prompt(CONVERSATION) + ANSWER
    texts = post(served, "/classify", {"input": [text, text.replace("brief", "long")]})["data"]
    messages = post(served, "/classify", {"messages": [*CONVERSATION, {"role": "assistant", "content": ANSWER}]})[
        "data"
    ]
    assert [row["index"] for row in texts] == [0, 1]
    assert texts[0]["probs"] == [expected]
    assert texts[1]["probs"] != [expected]
    assert messages[0]["probs"] == [expected]


@pytest.mark.parametrize("policy", ["qwen 3", "deepseek r1", "gemma", "phi 4"])
def test_slime_takes_the_whole_answer_for_the_reward(served, expected, policy):
    known = POLICIES[policy]
    if known.system and policy != "gemma":
        payload = {"prompt": known.prompt(CONVERSATION), "response": known.before + ANSWER + known.end, "label": "x"}
        assert post(served, "/remote_rm", payload) == expected
    payload = {"prompt": CONVERSATION, "response": ANSWER + known.end, "label": None}
    assert post(served, "/remote_rm", payload) == expected


def test_verls_reward_function_of_the_examples_gives_score_and_logs(served, expected):
    path = Path(__file__).parents[3] / "examples" / "verl_reward.py"
    spec = importlib.util.spec_from_file_location("verl_reward", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    called = {"data_source": "mine", "ground_truth": "", "extra_info": {"prompt": CONVERSATION, "num_turns": 2}}
    assert inspect.iscoroutinefunction(module.compute_score)  # verl then calls it in its own event loop
    for solution in (ANSWER, "<think>\nHm.\n</think>\n\n" + ANSWER):
        found = asyncio.run(module.compute_score(solution_str=solution, url=served.url + "/v1/score", **called))
        assert found["score"] == expected
        assert set(found) == {"score", "base_reward", "reward_std"}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/classify", {"input": "How do I boil an egg?"}, 422, "input 0 has no marks of a chat template"),
        ("/classify", {"input": ["<|foo|>hi"]}, 422, "input 0 opens with the mark"),
        ("/classify", {"input": POLICIES["qwen 3"].prompt([USER])}, 422, "input 0 does not end with the assistant's"),
        ("/classify", {"input": "a", "messages": [USER]}, 422, "expected either input or messages"),
        ("/classify", {"model": "a"}, 422, "expected either input or messages"),
        ("/classify", {"messages": [USER]}, 422, "messages 0 does not end with the assistant's"),
        ("/classify", {"input": "a", "use_activation": True}, 422, "a reward is not a probability"),
        ("/classify", {"input": [1, 2, 3]}, 422, "body.input"),
        ("/classify", {"input": ["a"] * 5}, 413, "5 responses; expected at most 4"),
        ("/remote_rm", {"prompt": "<|foo|>hi", "response": "a"}, 422, "prompt 0 opens with the mark"),
        ("/remote_rm", {"prompt": [], "response": "a"}, 422, "body.prompt"),
        ("/remote_rm", {"prompt": "a"}, 422, "body.response: Field required"),
        ("/remote_rm", {"prompt": "a", "response": "b" * 1001}, 413, "response 0 has 1001 characters"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(served, path, body, status, told):
    reply = served.post(path, body)
    assert reply.status == status
    assert told in reply.detail
