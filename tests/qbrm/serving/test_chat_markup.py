"""What a policy's chat template wrote is read back as its conversation; anything else is plain text or refused."""

import time

import pytest

from fixtures.chat_templates import POLICIES
from qbrm.errors import InputError
from qbrm.serving.chat_markup import read_prompt
from qbrm.serving.rollout import read_query, read_response, read_text

SYSTEM = {"role": "system", "content": "Answer in French, whatever\nis asked."}
USER = {"role": "user", "content": "How do I boil an egg?\n\nIt's fresh, I think."}
EARLIER = [
    USER,
    {"role": "assistant", "content": "Six minutes:\n1. boil"},
    {"role": "user", "content": "Really? Why [six]?"},
]
ANSWER = "Eight minutes.\n\n\tDon't wait! <b>Then</b> peel it: 1 < 2."
CONVERSATIONS = {"one turn": [USER], "system": [SYSTEM, USER], "turns": EARLIER, "system, turns": [SYSTEM, *EARLIER]}
CASES = [
    pytest.param(policy, conversation, id=f"{name}: {kind}")
    for name, policy in POLICIES.items()
    for kind, conversation in CONVERSATIONS.items()
    if policy.system or conversation[0] is not SYSTEM
]
policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


@pytest.mark.parametrize(("policy", "conversation"), CASES)
def test_a_rollout_is_read_back_as_its_conversation_and_the_answer_alone(policy, conversation):
    prompt = policy.prompt(conversation)
    said = policy.before + ANSWER + policy.end
    assert read_query(prompt + said, prompt) == (conversation, ANSWER)
    assert read_response(prompt, said) == (conversation, ANSWER)
    assert read_text(prompt + said) == (conversation, ANSWER)


@policies
def test_marks_of_another_family_within_a_turn_are_text(policy):
    content = "What do <|foo|>, [INST], <|user|> and <start_of_turn>user mean, and <|im_start|>user?"
    assert read_prompt(policy.prompt([{"role": "user", "content": content}])).messages == [
        {"role": "user", "content": content}
    ]


@policies
def test_an_answer_whose_beginning_the_prompt_holds_is_scored_as_a_whole(policy):
    prompt = policy.prompt([USER])
    begun = prompt + policy.before + "Eight minutes"
    assert read_query(begun + ", I say." + policy.end, begun) == ([USER], "Eight minutes, I say.")


# Mistral's, Llama 2's and DeepSeek V2's last marks are such as people write.
CUT = {name: policy for name, policy in POLICIES.items() if policy.prompt([USER])[-12:].rstrip().endswith(">")}


@pytest.mark.parametrize("policy", CUT.values(), ids=CUT)
def test_a_prompt_that_lost_its_beginning_is_no_text_of_a_user(policy):
    prompt = policy.prompt([USER])
    cut = prompt[prompt.index("fresh") :]
    with pytest.raises(InputError, match="does not begin as it should"):
        read_prompt(cut)


def test_reasoning_that_does_not_end_is_the_answer():
    prompt = POLICIES["deepseek r1"].prompt([USER])
    assert read_response(prompt, "Hm, an egg") == ([USER], "Hm, an egg")
    assert read_response(POLICIES["qwen 3"].prompt([USER]), "<think>\nHm, an egg") == ([USER], "Hm, an egg")


def test_earlier_reasoning_is_no_part_of_a_conversation():
    harmony = POLICIES["gpt-oss"].prompt(EARLIER)
    thought = "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
    final = "<|start|>assistant<|channel|>final"
    assert read_prompt(harmony.replace(final, thought + final)).messages == EARLIER
    qwen = POLICIES["qwen 3"].prompt(EARLIER)
    assert read_prompt(qwen.replace("Six minutes", "<think>\nHm.\n</think>\n\nSix minutes")).messages == EARLIER


def test_system_text_of_a_conversation_is_kept_however_usual_it_is():
    told = [{"role": "system", "content": "You are a helpful assistant."}, USER]
    for name, policy in POLICIES.items():
        if policy.system:
            assert read_prompt(policy.prompt(told)).messages == told, name


@pytest.mark.parametrize(
    "prompt",
    [
        "How do I boil an egg?", "Is <b>x</b> < 3? [1] <|", "", "User: hi\nAssistant: ", "[TODO] write it",
        " \n<b>bold</b>",
        "What does the [INST] tag mean in a Llama prompt? It opens a turn.", "F# has <|> and |>",
        "I type <|user|>\nhello<|end|>\n<|assistant|>\nand then?", "Where does <|im_start|>user\nhi<|im_end|> stand?",
        "Gemma writes <start_of_turn>user\nhi<end_of_turn>\nbefore an answer.", "<user_query>What is tea?</user_query>",
        "DeepSeek: <｜User｜>hi<｜Assistant｜>, yes?", "Does <s>old</s> or [/INST] end it",
    ],
)  # fmt: skip
def test_a_prompt_that_opens_with_no_mark_is_one_turn_as_it_is(prompt):
    assert read_prompt(prompt).messages == prompt
    assert read_query(prompt + ANSWER, prompt) == (prompt, ANSWER)


@pytest.mark.parametrize(
    "prompt",
    [
        "<|foo|>user\nhi<|bar|>\n<|foo|>assistant\n",
        "  <|foo|>hi",
        "<s>Human: hi\n\nAssistant:",
        "<seed:bos>user\nhi<seed:eos><seed:bos>assistant\n",
        "[gMASK]<sop><|user|>\nhi<|assistant|>",
        "[|system|][|endofturn|]\n[|user|]hi\n[|assistant|]",
        "<SPECIAL_10>System\n\n<SPECIAL_11>User\nhi\n<SPECIAL_11>Assistant\n",
        "]~!b[]~b]user\nhi[e~[\n]~b]ai\n",
        "<｜hy▁begin｜>hi<｜hy▁User｜>",
        "<|im_start|>king\nhi<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nhi\n<|im_start|>assistant\n",
        "<|im_start|>user\nhi<|im_end|>\nand this\n<|im_start|>assistant\n",
        "<|user|>\nhi<|eot|>\n<|assistant|>\n",
        "<|im_start|>assistant\n",
        "[INST] hi",
        "[AVAILABLE_TOOLS][][/AVAILABLE_TOOLS][INST]hi[/INST]",
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|python_tag|>",
        "<s>",
    ],
)
def test_a_prompt_with_marks_that_are_not_known_is_refused(prompt):
    with pytest.raises(InputError, match=r"opens with the mark|does not begin as it should"):
        read_prompt(prompt)


@pytest.mark.parametrize(
    "opening", [*(policy.prompt([USER])[:40] for policy in POLICIES.values()), "<think>", "\n", "x"]
)
def test_no_text_takes_long_to_read(opening):
    text = (opening * 200_000)[:200_000]
    start = time.perf_counter()
    for prompt in (text, opening + text, POLICIES["qwen 3"].prompt([USER]) + text):
        try:
            read_response(prompt, text)
        except InputError:
            continue
    assert time.perf_counter() - start < 2
