"""Reward models of transformers: what QBRM says a model gives is what the model gives, however texts are batched."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from fixtures.conversations import PROMPTS, RESPONSES, own_logits, refused, reward_model
from fixtures.tiny_models import CONFIGS, DECODERS, ENCODERS, EOS, PAD, SEP, classifier, own_logit, tokenizer
from qbrm.preferences import Completion, Message, preferences_of
from qbrm.reward_models.batches import TokenBudget
from qbrm.reward_models.template import ChatTemplate, PlainTemplate
from qbrm.reward_models.text import fold_system

pytestmark = pytest.mark.usefixtures("one_thread")


def user(text):
    return (Message("user", text),)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", DECODERS)
def test_rewards_of_a_padded_batch_are_the_logits_of_every_text_alone(kind, side):
    model = classifier(kind)
    expected = own_logits(model)
    found = reward_model(model, padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, expected, rtol=0, atol=2e-6)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_pool_their_first_token_and_so_do_we(kind):
    model = classifier(kind)
    expected = own_logits(model)
    np.testing.assert_allclose(reward_model(model).embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=2e-6)
    assert "padding side 'right'" in refused(reward_model(model, padding_side="left").embed, PROMPTS, RESPONSES)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_score_layer_turns_the_embedding_into_the_reward(kind):
    model = classifier(kind)
    found = reward_model(model).embed(PROMPTS, RESPONSES)
    head = model.score if hasattr(model, "score") else model.classifier
    layer = getattr(head, "out_proj", head)
    with torch.no_grad():
        expected = layer(torch.from_numpy(found.embedding))[:, 0]
    np.testing.assert_allclose(found.reward, expected, rtol=0, atol=2e-6)
    assert found.embedding.dtype == found.reward.dtype == np.float32


@pytest.mark.parametrize("kind", DECODERS)
def test_the_embedding_is_the_last_hidden_state_of_the_last_token(kind):
    model = classifier(kind)
    found = reward_model(model).embed(PROMPTS, RESPONSES).embedding
    for row, prompt, response in zip(found, PROMPTS, RESPONSES, strict=True):
        _, ids = own_logit(model, tokenizer(), prompt, response)
        with torch.no_grad():
            expected = model.base_model(input_ids=ids).last_hidden_state[0, -1]
        np.testing.assert_allclose(row, expected, rtol=0, atol=5e-6)


def test_one_text_alone_gets_the_models_logit_bit_for_bit():
    model = classifier("llama").to(torch.bfloat16)
    made = reward_model(model)
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        expected, _ = own_logit(model, tokenizer(), prompt, response)
        assert made.embed([prompt], [response]).reward[0] == float(expected)
    assert made.identity.dtype == "bfloat16"


@pytest.mark.parametrize("where", ["text", "top", "neither"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_composite_model_pools_the_same_token_wherever_padding_is_set(where, side):
    model = classifier("gemma3, composite")
    expected = own_logits(model)
    model.config.pad_token_id = PAD if where == "top" else None
    model.config.text_config.pad_token_id = PAD if where == "text" else None
    found = reward_model(model, padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pad", [None, -1])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3, composite"])
def test_without_a_padding_token_anywhere_the_last_token_is_pooled(kind, side, pad):
    model, tok = classifier(kind, pad=pad), tokenizer(pad=False)
    expected = own_logits(model, tok)
    assert tok.pad_token_id is None
    found = reward_model(model, tok, padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("configured", [None, EOS, SEP])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_with_the_end_token_moves_no_pooled_position(side, configured):
    """Tokenizers often pad with the token that also ends each text; the model alone says whether that one is pooled."""
    model, tok = classifier(pad=configured), tokenizer(pad=False)
    tok.pad_token = tok.eos_token
    expected = own_logits(copy.deepcopy(model), tok)
    found = reward_model(model, tok, padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, expected, rtol=0, atol=2e-6)


def test_the_tokenizers_padding_side_is_taken_unless_another_is_asked_for():
    tok = tokenizer(padding_side="left")
    assert "padded on the left" in reward_model(tok=tok).identity.template
    assert "padded on the left" not in reward_model(tok=tok, padding_side="right").identity.template
    assert "'top'; expected one of: right, left" in refused(reward_model, padding_side="top")


def test_a_model_that_pools_another_token_is_refused():
    model = classifier("llama")
    forward = model.forward

    def first_token(**inputs):
        output = forward(**inputs)
        output.logits = output.logits + 1
        return output

    model.forward = first_token
    assert "pools another position" in refused(reward_model(model).embed, PROMPTS, RESPONSES)


def test_a_forward_pass_without_the_score_layer_is_refused():
    model = classifier("llama")
    model.v_head = torch.nn.Linear(16, 1)
    model.score = torch.nn.Identity()
    assert "0 times" in refused(reward_model(model).embed, PROMPTS, RESPONSES)


def test_order_is_kept_and_batching_changes_nothing():
    few, many = reward_model(token_budget=30), reward_model()
    prompts = [user(f"question {number}" + " so" * (number % 5)) for number in range(20)]
    responses = [f"answer {number}" + " very" * (7 * number % 11) for number in range(20)]
    one, other = few.embed(prompts, responses), many.embed(prompts, responses)
    np.testing.assert_allclose(one.embedding, other.embedding, rtol=0, atol=5e-6)
    np.testing.assert_allclose(one.reward, other.reward, rtol=0, atol=5e-6)


def test_nothing_to_embed_gives_no_rows():
    found = reward_model().embed([], [])
    assert found.embedding.shape == (0, 16)
    assert found.reward.shape == (0,)


@pytest.mark.parametrize("text", ["", "\ud800", "a\udfffb", "\x00", "🏳️‍🌈 नमस्ते", "<eos><pad>"])
def test_odd_text_gives_finite_numbers(text):
    found = reward_model().embed([user(text), user("x")], [text, "y"])
    assert np.isfinite(found.embedding).all()
    assert np.isfinite(found.reward).all()


def test_a_reward_model_can_be_sent_to_another_process():
    made = reward_model()
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(made.embed(PROMPTS, RESPONSES).embedding, again.embed(PROMPTS, RESPONSES).embedding)


@pytest.mark.parametrize("pad", [PAD, None])
def test_threads_that_share_a_model_get_their_own_answers(pad):
    made = reward_model(classifier(pad=pad), tokenizer(pad=pad is not None))
    texts = [([user(f"{number} " + "so " * number)] * 2, ["yes", f"no {number}"]) for number in range(24)]
    expected = [made.embed(*text) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: made.embed(*text), texts))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.embedding, other.embedding)
        np.testing.assert_array_equal(one.reward, other.reward)


# Templates and truncation


def decoded(tokens, tok):
    return tok.decode(tokens.ids, skip_special_tokens=False)


def test_the_chat_template_writes_what_the_tokenizer_itself_would():
    tok = tokenizer()
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        _, ids = own_logit(classifier(), tok, prompt, response)
        assert ChatTemplate(tok, "tiny").tokens(prompt, response).ids == ids[0].tolist()


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (29, "<bos><user>What is tea?<eos><assistant>A drink.<eos>"),
        (25, "<bos><user>What is tea?<eos><assistant>A drink.<eos>"),
        (24, "<bos><user>hat is tea?<eos><assistant>A drink.<eos>"),
        (16, "<bos><user>ea?<eos><assistant>A drink.<eos>"),
        (13, "<bos><user><eos><assistant>A drink.<eos>"),
        (10, "<bos><user><eos><assistant>A dri<eos>"),
        (5, "<bos><user><eos><assistant><eos>"),
    ],
)
def test_long_texts_lose_the_prompts_beginning_then_the_responses_end(length, expected):
    tok = tokenizer()
    kept = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], "A drink.").truncated(length)
    assert decoded(kept, tok) == expected
    assert len(kept.ids) == min(length, 25)


def test_a_conversation_loses_its_oldest_turns_first():
    tok = tokenizer()
    tokens = ChatTemplate(tok, "tiny").tokens(PROMPTS[3], "So.")
    text = decoded(tokens.truncated(len(tokens.ids) - 5), tok)
    assert text == "<bos><user><eos><assistant>s.<eos><user>Why?<eos><assistant>So.<eos>"


def test_a_prompt_too_long_is_embedded_as_its_end_alone():
    made = reward_model(max_length=40)
    words = " ".join(str(number) for number in range(200))
    long = made.embed([user(words)], ["An answer."])
    kept = words[-(40 - 5 - len("An answer.")) :].strip()
    np.testing.assert_allclose(long.embedding, made.embed([user(kept)], ["An answer."]).embedding, rtol=0, atol=1e-6)


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_texts_that_are_cut_are_counted(template):
    made = reward_model(template=template, max_length=40)
    lengths = [len(made._template.tokens(*text).ids) for text in zip(PROMPTS, RESPONSES, strict=True)]
    _, cut = made.embed_and_count(PROMPTS, RESPONSES)
    assert cut == sum(length > 40 for length in lengths)
    assert 0 < cut < len(PROMPTS)


CALL = {"function": {"name": "weigh", "arguments": {"of": "tea"}}}
CALLING = (
    "<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] or '' }}"
    "{% for call in m.get('tool_calls') or [] %}{{ call | tojson }}{% endfor %}<eos>{% endfor %}"
)


def test_a_template_writes_tool_calls_of_prompt_and_response():
    """As the tokenizer's own method writes the messages."""
    tok = tokenizer(CALLING)
    asked = [{"role": "user", "content": "Weigh it."}]
    called = [{"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "3 g"}]
    read = preferences_of([{"prompt": [*asked, *called], "chosen": "3 g.", "rejected": called[:1]}]).preferences[0]
    template = ChatTemplate(tok, "tiny")
    for response, messages in zip(
        read.responses, ([{"role": "assistant", "content": "3 g."}], called[:1]), strict=True
    ):
        expected = tok.apply_chat_template([*asked, *called, *messages], tokenize=False)
        assert tok.decode(template.tokens(read.prompt, response).ids) == expected


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_another_tool_call_has_another_reward(template):
    made = reward_model(tok=tokenizer(CALLING), template=template)
    answers = [[{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name}}]}] for name in "ab"]
    (read,) = preferences_of([{"prompt": "Weigh it.", "chosen": answers[0], "rejected": answers[1]}])
    one, other = made.embed([read.prompt] * 2, read.responses).reward
    assert one != other


def test_a_response_of_several_messages_that_the_template_refuses_is_told_before():
    alternating = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    made = reward_model(tok=tokenizer(alternating))
    twice = Completion((Message("assistant", "One."), Message("assistant", "Two.")))
    (refusal,) = made.refusals([user("?")] * 2, ["One.", twice])
    assert refusal.number == 1
    assert "roles user, assistant (" in refusal.reason


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_cutting_a_long_text_prints_nothing(template, caplog, capfd):
    """Transformers warns of sequences longer than the tokenizer's limit, which are cut here afterwards."""
    reward_model(template=template).embed([user("so " * 300)], ["yes"])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_length_that_does_not_even_hold_the_template_is_refused():
    message = refused(reward_model(max_length=4).embed, PROMPTS, RESPONSES)
    assert "maximum length is 4 tokens" in message
    assert "template alone takes 5" in message


@pytest.mark.parametrize("length", [0, 257])
def test_lengths_that_the_model_cannot_take_are_refused(length):
    assert f"is {length}; expected 1 to 256" in refused(reward_model, max_length=length)


def test_a_template_that_rewrites_the_response_keeps_the_sequences_end():
    shouting = (
        "<bos>{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | upper }}<eos>{% endfor %}"
    )
    tok = tokenizer(shouting)
    kept = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], "A drink.").truncated(12)
    assert decoded(kept, tok) == "<bos><eos><assistant>A DRINK.<eos>"


def test_a_template_that_writes_todays_date_writes_the_same_one_every_day():
    dated = "{% for m in messages %}{{ strftime_now('%d %b %Y') }} {{ m['content'] }}<eos>{% endfor %}"
    tok = tokenizer("<bos>{{ strftime_now('%Y') if strftime_now is defined }}<eos>" + dated)
    template = ChatTemplate(tok, "tiny")
    expected = "<bos>26 Jul 2024<eos>26 Jul 2024 What is tea?<eos>26 Jul 2024 A drink.<eos>"
    assert decoded(template.tokens(PROMPTS[0], "A drink."), tok) == expected
    assert "as of 26 Jul 2024" in template.description
    assert "as of" not in ChatTemplate(tokenizer(), "tiny").description


def test_a_tokenizer_written_in_python_keeps_the_sequences_end_too():
    tok = ByT5Tokenizer(chat_template="{% for message in messages %}{{ message['content'] }}</s>{% endfor %}")
    assert not tok.is_fast
    for template in (ChatTemplate(tok, "tiny"), PlainTemplate(tok, "tiny")):
        tokens = template.tokens(PROMPTS[0], "A drink.")
        kept = tokens.truncated(12)
        assert kept.ids == [tokens.ids[0], *tokens.ids[-11:]]
        assert "A drink." in tok.decode(kept.ids)


def test_a_tokenizer_without_a_chat_template_is_refused_by_name():
    message = refused(reward_model, tok=tokenizer(chat_template=None))
    assert "tokenizer of tiny has no chat template" in message
    assert "'plain'" in message


def test_a_conversation_that_the_template_refuses_is_one_line():
    tok = tokenizer("{{ raise_exception('no system,\nplease') }}")
    message = refused(reward_model(tok=tok).embed, [PROMPTS[1]], ["y"])
    assert "system, user" in message


NO_SYSTEM = (
    "<bos>{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("system user", "user:a\n\nb"),
        ("system system user", "user:a\n\nb\n\nc"),
        ("developer user assistant user", "user:a\n\nb assistant:c user:d"),
        ("user assistant system user", "user:a assistant:b user:c\n\nd"),
        ("user system", "user:a\n\nb"),
        ("user assistant system", "user:a\n\nc assistant:b"),
        ("system", "user:a"),
        ("user assistant user", "user:a assistant:b user:c"),
    ],
)
def test_system_text_goes_to_the_next_user_turn(turns, expected):
    prompt = tuple(Message(role, text) for role, text in zip(turns.split(), "abcd", strict=False))
    assert " ".join(f"{turn.role}:{turn.content}" for turn in fold_system(prompt)) == expected


def test_folded_system_text_is_embedded_as_the_users():
    folding = reward_model(tok=tokenizer(NO_SYSTEM), fold_system=True)
    asked = user(PROMPTS[1][0].content + "\n\n" + PROMPTS[1][1].content)
    found = folding.embed([PROMPTS[1]], ["Water."])
    expected = reward_model(tok=tokenizer(NO_SYSTEM)).embed([asked], ["Water."])
    np.testing.assert_array_equal(found.reward, expected.reward)
    assert folding.identity != reward_model(tok=tokenizer(NO_SYSTEM)).identity
    assert folding.settings()["fold_system"] is True


def test_refusals_are_told_before_anything_is_embedded():
    twice = (Message("user", "a"), Message("user", "b"))
    first = (Message("assistant", "a"), Message("user", "b"))
    made, prompts = reward_model(tok=tokenizer(NO_SYSTEM)), [PROMPTS[0], PROMPTS[1], twice, first, PROMPTS[3]]
    found = made.refusals(prompts, ["x"] * 5)
    assert [(refusal.number, refusal.foldable) for refusal in found] == [(1, True), (2, False), (3, False)]
    for refusal, text in zip(found, ["no system", "roles must alternate", "roles must alternate"], strict=True):
        assert text in refusal.reason
        assert refusal.reason in refused(made.embed, [prompts[refusal.number]], ["x"])
    folding = reward_model(tok=tokenizer(NO_SYSTEM), fold_system=True)
    assert [refusal.number for refusal in folding.refusals(prompts, ["x"] * 5)] == [2, 3]
    assert not reward_model().refusals(prompts, ["x"] * 5)
    assert not reward_model(template="plain").refusals(prompts, ["x"] * 5)


def test_a_token_beyond_the_embedding_table_is_refused_with_its_text():
    tok = tokenizer()
    tok.add_tokens([f"<new {number}>" for number in range(40)])
    made = reward_model(tok=tok)
    texts = ["<new 0> is there", "<new 39> is not"]
    (refusal,) = made.refusals([PROMPTS[0]] * 2, texts)
    assert refusal.number == 1
    assert "'<new 39>' in the text is token 302" in refusal.reason
    assert refusal.reason in refused(made.embed, [PROMPTS[0]] * 2, texts)


def test_an_encoder_with_one_type_of_token_is_given_no_types():
    """RoBERTa's checkpoints have one, and a tokenizer may still name the types that the second text of a pair has."""
    tok = tokenizer(chat_template=None, sep=True)
    model = classifier("roberta")
    model.config.type_vocab_size = 1
    embeddings = model.roberta.embeddings
    embeddings.token_type_embeddings = torch.nn.Embedding(1, 16)
    found = reward_model(model, tok, template="plain").embed([PROMPTS[0], PROMPTS[2]], ["A drink.", "y"])
    assert np.isfinite(found.reward).all()


def test_the_plain_template_joins_by_a_blank_line_or_as_a_pair():
    one, pair = tokenizer(chat_template=None), tokenizer(chat_template=None, sep=True)
    plain = PlainTemplate(one, "tiny").tokens(PROMPTS[0], "A drink.")
    assert decoded(plain, one) == "<bos>What is tea?\n\nA drink.<eos>"
    both = PlainTemplate(pair, "tiny").tokens(PROMPTS[0], "A drink.")
    assert decoded(both, pair) == "<bos>What is tea?<sep>A drink.<eos>"
    assert both.types == [0] * (len("What is tea?") + 2) + [1] * (len("A drink.") + 1)
    assert decoded(both.truncated(15), pair) == "<bos>tea?<sep>A drink.<eos>"
    assert decoded(plain.truncated(17), one) == "<bos> tea?\n\nA drink.<eos>"


def test_the_second_text_of_a_pair_is_told_from_the_first():
    """Token type ids reach an encoder that was trained with them."""
    tok = tokenizer(chat_template=None, sep=True)
    model = classifier("deberta-v2")
    made = reward_model(model, tok, template="plain")
    inputs = tok("What is tea?", "A drink.", return_tensors="pt", return_token_type_ids=True)
    tok.model_input_names = ["input_ids", "attention_mask", "token_type_ids"]
    with torch.no_grad():
        expected = float(model(**inputs).logits)
        without = float(model(input_ids=inputs["input_ids"]).logits)
    found = reward_model(model, tok, template="plain").embed([PROMPTS[0], PROMPTS[3]], ["A drink.", "So it is."])
    assert found.reward[0] == pytest.approx(expected, abs=2e-6)
    assert made.identity.template.startswith("prompt and response as a pair")
    assert expected != without


def test_an_unknown_template_is_refused():
    assert "chat, plain" in refused(reward_model, template="chatty")


def test_identity_changes_with_all_that_changes_an_embedding():
    base = reward_model().identity
    other_chat = tokenizer("{% for message in messages %}{{ message['content'] }}<eos>{% endfor %}")
    others = [
        reward_model(max_length=100).identity,
        reward_model(template="plain").identity,
        reward_model(tok=other_chat).identity,
        reward_model(padding_side="left").identity,
        reward_model(classifier().to(torch.bfloat16)).identity,
    ]
    assert len({base, *others}) == 6
    assert "loses the first tokens of the prompt" in base.template
    assert base == reward_model().identity


# Memory


class Exhausting:
    """A model that runs out of memory above so many padded tokens."""

    def __init__(self, model, tokens, error):
        self.model, self.tokens, self.error, self.failures = model, tokens, error, 0
        model.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, module, arguments, inputs):
        if inputs["input_ids"].numel() > self.tokens:
            self.failures += 1
            raise self.error


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_running_out_of_memory_halves_the_batch_and_loses_nothing(error):
    prompts, responses = PROMPTS * 8, RESPONSES * 8
    expected = reward_model().embed(prompts, responses)
    model = classifier()
    exhausting = Exhausting(model, 200, error)
    made = reward_model(model, token_budget=3000)
    found = made.embed(prompts, responses)
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=5e-6)
    np.testing.assert_allclose(found.reward, expected.reward, rtol=0, atol=5e-6)
    assert 1 <= exhausting.failures <= 5
    failures = exhausting.failures
    made.embed(prompts, responses)
    assert exhausting.failures == failures


def test_a_single_text_that_exhausts_the_memory_is_one_line():
    model = classifier()
    Exhausting(model, 20, torch.OutOfMemoryError("CUDA out of memory."))
    message = refused(reward_model(model).embed, PROMPTS, RESPONSES)
    assert "one text of" in message
    assert "out of memory" in message


def test_other_errors_of_a_model_are_not_taken_for_memory():
    model = classifier()
    Exhausting(model, 20, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        reward_model(model).embed(PROMPTS, RESPONSES)


def test_every_text_is_run_once_when_batches_are_halved():
    budget, seen = TokenBudget(100), []

    def forward(batch):
        if len(batch) > 3:
            raise torch.OutOfMemoryError("out of memory")
        seen.extend(batch)
        return len(batch)

    found = list(budget.run([10] * 25, forward))
    assert sorted(seen) == list(range(25))
    assert sum(count for _, count in found) == 25


@pytest.mark.parametrize("tokens", [0, -5])
def test_a_token_budget_below_one_is_refused(tokens):
    assert str(tokens) in refused(reward_model, token_budget=tokens)
