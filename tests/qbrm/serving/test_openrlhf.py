"""OpenRLHF's protocol: the response is found in what its clients send, and is scored as an answer to the prompt."""

import time

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from fixtures.serving_client import serving
from qbrm.serving.rollout import response_in
from qbrm.serving.settings import Limits

USER = {"role": "user", "content": "How do I boil an egg?\n\nIt's fresh, I think."}
ANSWER = "Eight minutes, in boiling water.\n\n\tDon't wait!  <b>Then</b> peel it: 1 < 2."
CONVERSATIONS = {
    "one turn": [USER],
    "system": [{"role": "system", "content": "Be brief."}, USER],
    "several turns": [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "Six minutes."},
        {"role": "user", "content": "Really?"},
    ],
}


def chatml(messages):
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages) + "<|im_start|>assistant\n"


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    """Small tensors, one thread."""


@pytest.fixture(scope="module")
def served(quick):
    with serving(limits=Limits(responses=4, characters=1000)) as running:
        yield running


@pytest.fixture(scope="module", params=["byte level", "metaspace"])
def tokenizer(request):
    """Tokenizers of the two kinds that policies have: one gives every text back, one is careless with spaces."""
    made = Tokenizer(models.BPE(unk_token=None))
    if request.param == "byte level":
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        alphabet = []
    texts = [chatml(CONVERSATIONS["several turns"]), ANSWER]
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    marks = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<pad>"]
    made.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return made


def decoded(tokenizer, prompt, response, keep=None, padding=0):
    """What OpenRLHF sends: prompt and response as tokens, the prompt's first ones cut if need be, decoded as one."""
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    ids = ids[-keep:] if keep else ids
    ids += [*tokenizer.encode(response, add_special_tokens=False).ids, tokenizer.token_to_id("<|im_end|>")]
    pad = [tokenizer.token_to_id("<pad>")] * padding
    return tokenizer.decode(pad + ids + pad, skip_special_tokens=False)


def words(text):
    return text.split()


@pytest.mark.parametrize("endings", ["", "<|im_end|>", "</s>", "<｜end▁of▁sentence｜></s>", "<|eot|>" * 3])
def test_the_marks_that_end_a_response_are_no_part_of_it(endings):
    assert response_in("What is tea? " + ANSWER + endings, "What is tea? ") == ANSWER


def test_what_only_looks_like_a_mark_within_a_response_stays():
    response = "In HTML, <s>old</s> is struck out; <|im_end|> ends a turn. Fine"
    assert response_in("p" + response, "p") == response


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_the_response_is_found_in_what_a_tokenizer_decodes(tokenizer, conversation, padding):
    prompt = chatml(conversation)
    query = decoded(tokenizer, prompt, ANSWER, padding=padding)
    assert words(response_in(query, prompt)) == words(tokenizer.decode(tokenizer.encode(ANSWER).ids))


@pytest.mark.parametrize("keep", [30, 45])
def test_a_response_is_found_behind_a_prompt_that_lost_its_beginning(tokenizer, keep):
    prompt = chatml(CONVERSATIONS["several turns"])
    query = decoded(tokenizer, prompt, ANSWER, keep=keep)
    assert not query.startswith(prompt)
    assert words(response_in(query, prompt)) == words(tokenizer.decode(tokenizer.encode(ANSWER).ids))


def test_half_a_letter_where_a_prompt_was_cut_is_no_obstacle():
    prompt = "ééééé what does the fox say to the hen? "
    assert response_in("\ufffd" + prompt[5:] + "Nothing.", prompt) == "Nothing."


@pytest.mark.parametrize(
    ("query", "prompt"),
    [("Something else.", "How do I boil an egg?"), ("", "How?"), ("an egg?", "How do I boil an egg?")],
    ids=["another text", "nothing", "too little in common"],
)
def test_a_query_without_its_prompt_is_no_rollout(query, prompt):
    assert response_in(query, prompt) is None


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("a" * 200_000 + "b", "a" * 100_000 + "c" + "a" * 99_999),
        ("x" + "[INST]" * 30_000, "x"),
        ("x" + " " * 200_000 + ".", "x"),
        ("x" + "<|e|>" * 40_000, "x"),
        ("<" * 200_000, ">" * 200_000),
    ],
    ids=["repetition", "openings", "spaces", "endings", "brackets"],
)
def test_no_text_takes_long_to_read(query, prompt):
    start = time.perf_counter()
    response_in(query, prompt)
    assert time.perf_counter() - start < 1


def test_messages_are_scored_as_they_are_and_need_no_marks(served):
    conversation = [*CONVERSATIONS["several turns"], {"role": "assistant", "content": "<think>Hm</think> Yes."}]
    answer = served.post("/get_reward", {"messages": [conversation, [USER, conversation[-1]]], "labels": [1]}).json
    prompts, responses = [conversation[:-1], [USER]], ["<think>Hm</think> Yes."] * 2
    assert answer["rewards"] == pytest.approx(served.model.score(prompts, responses).refined.tolist(), abs=1e-5)


@pytest.mark.parametrize("template", [chatml, lambda messages: f"<|foo|>{messages[-1]['content']}<|bar|>"])
def test_prompts_that_are_messages_too_may_be_of_any_template(served, template):
    conversation = CONVERSATIONS["several turns"]
    prompt = template(conversation)
    body = {"query": [prompt + ANSWER + "<|im_end|>"], "prompts": [prompt], "messages": [conversation]}
    expected = served.model.score([conversation], [ANSWER]).refined.tolist()
    assert served.post("/get_reward", body).json["rewards"] == pytest.approx(expected, abs=1e-5)
    whole = body | {"messages": [[*conversation, {"role": "assistant", "content": ANSWER}]]}
    assert served.post("/get_reward", whole).json["rewards"] == pytest.approx(expected, abs=1e-5)


def test_rewards_are_the_refined_ones_with_logs_for_every_query(served):
    conversation = CONVERSATIONS["several turns"]
    prompts = [chatml(conversation), "What is tea?"]
    body = {
        "query": [prompts[0] + ANSWER + "<|im_end|>", prompts[1] + "A drink."],
        "prompts": prompts,
        "labels": ["", {"anything": [1, None]}],
    }
    answer = served.post("/get_reward", body).json
    expected = served.model.score([conversation, "What is tea?"], [ANSWER, "A drink."])
    assert answer["rewards"] == pytest.approx(expected.refined.tolist(), abs=1e-5)
    assert answer["scores"] == answer["rewards"]
    assert answer["extra_logs"]["base_reward"] == pytest.approx(expected.base.tolist(), abs=1e-5)
    assert answer["extra_logs"]["reward_std"] == pytest.approx(expected.std.tolist(), abs=1e-5)
    assert all(len(values) == 2 for values in answer["extra_logs"].values())


@pytest.mark.parametrize("labels", [{}, {"labels": None}, {"labels": []}, {"reward_model": "x"}])
def test_labels_may_be_anything_and_later_clients_may_send_more(served, labels):
    assert served.post("/get_reward", {"query": ["ab"], "prompts": ["a"], **labels}).status == 200


def test_an_empty_response_has_a_reward_too(served):
    assert len(served.post("/get_reward", {"query": ["a<|im_end|>"], "prompts": ["a"]}).json["rewards"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"query": ["ab"]}, 422, "prompts is missing"),
        ({"query": ["ab"], "prompts": None}, 422, "from version 0.5.8 on"),
        ({"query": ["ab"], "prompts": ["a", "b"]}, 422, "1 queries and 2 prompts"),
        ({"query": ["ab", "xy"], "prompts": ["a", "b"]}, 422, "prompt 1 is not the beginning of its query"),
        ({"query": ["ab", "<|foo|>b"], "prompts": ["a", "<|foo|>"]}, 422, "prompt 1 opens with the mark '<|foo|>'"),
        ({"query": ["ab"], "prompts": ["a"], "messages": []}, 422, "1 queries and 0 messages"),
        ({}, 422, "expected query and prompts, or messages"),
        ({"messages": [[USER]]}, 422, "messages 0 does not end with the assistant's answer"),
        ({"messages": [[{"role": "assistant", "content": "a"}]]}, 422, "messages 0 does not end with"),
        ({"messages": [[USER, {"role": "assistant", "content": "b" * 1001}]]}, 413, "response 0 has 1001 characters"),
        ({"query": "ab", "prompts": "a"}, 422, "body.query"),
        ({"query": ["a"] * 5, "prompts": ["a"] * 5}, 413, "5 responses; expected at most 4"),
        ({"query": ["a" + "b" * 1001], "prompts": ["a"]}, 413, "response 0 has 1001 characters"),
        ({"query": ["a" + "b" * 9000], "prompts": ["a"]}, 413, "response 0 has 9001 characters"),
    ],
)
def test_what_is_no_batch_of_rollouts_is_refused_in_one_line(served, body, status, told):
    reply = served.post("/get_reward", body)
    assert reply.status == status
    assert told in reply.detail
