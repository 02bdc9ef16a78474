"""Embeddings that read more than the score layer's input: which layers, over which tokens."""

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForSequenceClassification, ByT5Tokenizer

from fixtures.conversations import PROMPTS, RESPONSES, refused, reward_model
from fixtures.tiny_models import CONFIGS, DECODERS, ENCODERS, EOS, classifier, own_logit, tokenizer
from qbrm.preferences import Completion, Message
from qbrm.reward_models.base import Identity
from qbrm.reward_models.reading import Reading
from qbrm.reward_models.template import ChatTemplate, PlainTemplate

pytestmark = pytest.mark.usefixtures("one_thread")


def answered(tokens, tok):
    return tok.decode([tokens.ids[at] for at in tokens.answer])


def expected_embedding(model, prompt, response, layers):
    """All hidden states of one text alone, averaged over the bytes of its response: a token a byte, one token after."""
    _, ids = own_logit(model, tokenizer(), prompt, response)
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        last = model.base_model(input_ids=ids).last_hidden_state[0]
    length = len(response.encode())
    answer = slice(-1 - length, -1) if length else slice(-1, None)
    return torch.cat([last[-1], last[answer].mean(0), *(states[layer][0, answer].mean(0) for layer in layers)])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", DECODERS)
def test_an_embedding_is_the_scored_token_and_the_means_over_the_response(kind, side):
    model = classifier(kind)
    made = reward_model(model, padding_side=side, embedding="layers:0.5")
    found = made.embed(PROMPTS, RESPONSES)
    for row, prompt, response in zip(found.embedding, PROMPTS, RESPONSES, strict=True):
        expected = expected_embedding(model, prompt, response, [1])
        np.testing.assert_allclose(row, expected, rtol=0, atol=2e-5)
    assert made.dim == 48
    assert made.head_dim == 16


@pytest.mark.parametrize("kind", [*ENCODERS, "bert"])
def test_an_encoders_means_are_over_the_second_text_alone(kind):
    model, tok = classifier(kind), tokenizer(sep=True)
    found = (
        reward_model(model, tok, template="plain", embedding="layers").embed(PROMPTS[:1], RESPONSES[:1]).embedding[0]
    )
    inputs = tok("What is tea?", "A drink.", return_tensors="pt")
    if kind == "roberta":
        inputs.pop("token_type_ids", None)
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    answer = slice(-1 - len("A drink."), -1)
    expected = torch.cat([states[-1][0, answer].mean(0), states[1][0, answer].mean(0)])
    np.testing.assert_allclose(found[16:], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_score_layers_input_stays_in_front_whatever_else_is_read(kind):
    model = classifier(kind)
    last = reward_model(model).embed(PROMPTS, RESPONSES)
    for embedding in ("mean", "layers"):
        made = reward_model(model, embedding=embedding)
        found = made.embed(PROMPTS, RESPONSES)
        np.testing.assert_array_equal(found.embedding[:, : made.head_dim], last.embedding)
        np.testing.assert_array_equal(found.reward, last.reward)


@pytest.mark.parametrize("length", [24, 11, 7, 5])
def test_means_are_over_what_is_left_of_a_response_that_is_cut(length):
    model, tok = classifier(), tokenizer()
    found = reward_model(model, embedding="mean", max_length=length).embed(PROMPTS[:1], ["A drink."]).embedding[0]
    kept = "A drink."[: max(0, min(8, length - 5))]
    ids = tok(f"<bos><user>{'What is tea?'[max(0, 25 - length) :]}<eos><assistant>{kept}<eos>", return_tensors="pt")
    ids = ids.input_ids[:, 1:-1]  # the tokenizer adds its own ends
    assert ids.shape[1] == length
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
    expected = hidden[-1 - len(kept) : -1].mean(0) if kept else hidden[-1]
    np.testing.assert_allclose(found[16:], expected, rtol=0, atol=1e-5)


ENDING = "<bos>{% for m in messages %}<{{ m['role'] }}>\n{{ m['content'] }}<eos>\n{% endfor %}bye, drink"
UPPER = "<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | upper }}<eos>{% endfor %}"
UPPER += "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.mark.parametrize(
    ("template", "response", "expected"),
    [
        (None, "A drink.", "A drink."),
        (None, "  A drink.\n", "A drink."),
        (None, "", ""),
        (None, " ", ""),
        (None, "What is tea?", "What is tea?"),
        (None, "नमस्ते 🏳️‍🌈", "नमस्ते 🏳️‍🌈"),
        (ENDING, "drink", "drink"),
        (ENDING, "y", "y"),
        (ENDING, "e\n", "e"),
        (UPPER, "A drink.", "A DRINK.<eos>"),
    ],
    ids=repr,
)
def test_the_answers_tokens_are_the_responses_own(template, response, expected):
    """A template that rewrites a response tells what it adds to the prompt, its end included."""
    tok = tokenizer(template) if template else tokenizer()
    tokens = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], response)
    assert answered(tokens, tok) == expected
    assert [tokens.ids.index(EOS)] < tokens.answer or not tokens.answer


def test_a_response_of_several_messages_is_all_that_it_adds_to_the_prompt():
    tok = tokenizer()
    several = Completion((Message("assistant", "One."), Message("user", "And?"), Message("assistant", "Two.")))
    tokens = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], several)
    assert answered(tokens, tok) == "One.<eos><user>And?<eos><assistant>Two.<eos>"


@pytest.mark.parametrize("sep", [False, True])
def test_the_answer_of_a_plain_text_is_its_second_part(sep):
    tok = tokenizer(sep=sep)
    for response in ("A drink.", "What is tea?", ""):
        assert answered(PlainTemplate(tok, "tiny").tokens(PROMPTS[0], response), tok) == response


@pytest.mark.parametrize(
    ("typed", "depth", "layers", "canonical"),
    [
        ("last", 30, (), "last"),
        ("mean", 30, (), "mean"),
        ("layers", 30, (20,), "layers"),
        ("layers", 2, (1,), "layers"),
        ("layers:0.67,0.5", 30, (15, 20), "layers:0.5,0.67"),
        ("layers:0.01", 30, (1,), "layers:0.01"),
    ],
)
def test_fractions_of_the_depth_name_layers(typed, depth, layers, canonical):
    reading = Reading.named(typed)
    assert reading.layers(depth) == layers
    assert str(reading) == canonical
    assert Reading.named(canonical) == reading


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ("first", "unknown embedding 'first'; expected last, mean, layers"),
        ("mean:0.5", "unknown embedding 'mean:0.5'"),
        ("layers:", "names no fractions"),
        ("layers:a", "names no fractions"),
        ("layers:0", "not between 0 and 1"),
        ("layers:1", "not between 0 and 1"),
        ("layers:nan", "not between 0 and 1"),
        ("layers:0.5,1.5", "not between 0 and 1"),
        ("layers:0.4,0.5", "reads layer 1 of 2 twice"),
        ("layers:0.9", "reads layer 2 of 2 twice (the last is always read)"),
    ],
)
def test_a_layer_that_is_not_there_is_one_line(embedding, message):
    assert message in refused(reward_model, embedding=embedding)


def test_models_and_tokenizers_that_do_not_tell_are_refused_in_one_line():
    bart = BartForSequenceClassification(
        BartConfig(
            vocab_size=300,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_labels=1,
        )
    )
    assert "its layers cannot be told" in refused(reward_model, bart, embedding="mean")
    written = ByT5Tokenizer(chat_template=tokenizer().chat_template)
    assert "written in Python" in refused(reward_model, tok=written, embedding="mean")


def test_the_identity_says_what_is_read_and_old_ones_read_the_last_layer():
    last, rich = reward_model().identity, reward_model(embedding="layers:0.5").identity
    assert (last.embedding, rich.embedding) == ("last", "layers:0.5")
    old = {name: value for name, value in last.to_dict().items() if name != "embedding"}
    assert Identity.from_dict(old) == last != rich
    assert reward_model().settings()["embedding"] == "last"
    assert reward_model(embedding="layers:0.5").settings()["embedding"] == "layers:0.5"


UNMARKED = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"


@pytest.mark.parametrize(
    ("kind", "tok", "options", "expected"),
    [
        *((kind, tokenizer(), {}, "mean") for kind in DECODERS),
        ("llama", tokenizer(), {"template": "plain"}, "last"),
        ("llama", tokenizer(UNMARKED), {}, "last"),
        ("llama", ByT5Tokenizer(chat_template=tokenizer().chat_template), {}, "last"),
        *((kind, tokenizer(sep=True), {}, "last") for kind in ("bert", *ENCODERS)),
        *((kind, tokenizer(sep=True), {"template": "plain"}, "last") for kind in ("bert", *ENCODERS)),
    ],
)
def test_a_mean_is_read_by_default_of_decoders_whose_template_marks_responses(kind, tok, options, expected):
    made = reward_model(classifier(kind), tok, embedding=None, **options)
    assert made.identity.embedding == made.settings()["embedding"] == expected


def test_a_mean_is_no_default_of_models_with_code_of_their_own():
    class Own(type(classifier())):
        """As if it came with the model: not from transformers."""

    model = classifier()
    model.__class__ = Own
    assert reward_model(model, embedding=None).identity.embedding == "last"
