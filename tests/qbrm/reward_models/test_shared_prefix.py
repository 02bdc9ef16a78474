"""Texts of one prompt share its keys and values, and get the numbers that they get alone."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from fixtures.conversations import reward_model
from fixtures.tiny_models import DECODER, EOS, PAD, classifier, own_logit, tokenizer
from qbrm.preferences import Message
from qbrm.reward_models.batches import TokenBudget, length_sorted_batches
from qbrm.reward_models.shared_prefix import KINDS, _parts, can_share, shared_prefixes
from qbrm.reward_models.template import ChatTemplate, Tokens

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = [(Message("user", f"Question {number}: " + "why, " * number),) for number in (2, 5, 9)]
ANSWERS = ["", "No.", "No, and that is so because it is.", "Never " * 12, "é🏳️‍🌈", "No."]
TEXTS = [(prompt, answer) for prompt in ASKED for answer in ANSWERS] + [
    ((Message("user", "Alone, all alone?"),), "No.")
]
ORDER = np.random.default_rng(0).permutation(len(TEXTS))
PROMPTS, RESPONSES = ([TEXTS[at][side] for at in ORDER] for side in (0, 1))


def decoder(kind, **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **DECODER, num_labels=1, pad_token_id=PAD, bos_token_id=1, eos_token_id=2)
    config.update({"sliding_window": None, "partial_rotary_factor": 0.5, **options})
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def tokens_that_ran(made):
    """Count the tokens that go through the model."""
    counted = []

    def count(module, inputs, output):
        counted.append(inputs[0].numel())

    made.parts().model.get_input_embeddings().register_forward_hook(count)
    return counted


def one_by_one(made):
    embedded = [made.embed([prompt], [response]) for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    return [np.concatenate(parts) for parts in zip(*embedded, strict=True)]


@pytest.mark.parametrize("budget", [None, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_share_a_prompt_get_what_each_gets_alone(kind, budget):
    made = reward_model(decoder(kind), embedding="layers:0.5", token_budget=budget)
    for together, alone in zip(made.embed(PROMPTS, RESPONSES), one_by_one(made), strict=True):
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
        assert np.ptp(alone, axis=0).min() > 0.01


def test_a_shared_prompt_goes_through_the_model_once():
    made = reward_model(decoder("llama"), token_budget=1)  # no padding
    counted = tokens_that_ran(made)
    made.embed(PROMPTS, RESPONSES)
    together, counted[:] = sum(counted), []
    one_by_one(made)
    texts = [ChatTemplate(tokenizer(), "tiny").tokens(*text) for text in zip(ASKED, ANSWERS, strict=False)]
    prefixes = [min(text.answer, default=len(text.ids) - 1) for text in texts]
    assert sum(counted) - together == (len(ANSWERS) - 1) * sum(prefixes)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [PAD, EOS, None])
def test_rewards_behind_a_shared_prefix_are_transformers_own(pad, side):
    """Also where the padding token ends each text, and where there is none."""
    model, tok = classifier(pad=pad), tokenizer(pad=pad is not None)
    expected = [float(own_logit(model, tok, *text)[0]) for text in TEXTS]
    found = reward_model(model, tok, padding_side=side).embed(*zip(*TEXTS, strict=True)).reward
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)


def test_texts_that_are_cut_at_different_places_share_what_is_left():
    made = reward_model(max_length=60, embedding="mean")
    for together, alone in zip(made.embed(PROMPTS, RESPONSES), one_by_one(made), strict=True):
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma2", {}),
        ("gemma3, composite", {}),
        ("gpt2", {}),
        ("bert", {}),
        ("mistral", {"sliding_window": 8}),
        ("llama", {"_attn_implementation": "flex_attention"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    ],
    ids=str,
)
def test_models_that_look_elsewhere_than_at_all_before_a_token_read_texts_whole(kind, options):
    model = decoder(kind, **options) if options else classifier(kind)
    assert not can_share(model)
    assert can_share(decoder("llama"))


def test_a_class_of_its_own_reads_texts_whole():
    own = type("Own", (type(classifier()),), {"__module__": "transformers_modules.own"})
    model = classifier()
    model.__class__ = own
    assert not can_share(model)


def tokens(text, answer=""):
    return Tokens(
        [ord(letter) for letter in text], [0] * len(text), [], [], list(range(len(text) - len(answer), len(text)))
    )


QUESTION = "a question of some length? "


def test_a_prefix_ends_where_the_first_response_begins():
    texts = [tokens(f"{QUESTION}so it is", "so it is"), tokens(f"{QUESTION}so it was", "so it was")]
    (prefix,) = shared_prefixes(texts, ["same"] * 2, None)
    assert prefix.ids == [ord(letter) for letter in QUESTION]
    assert prefix.members == [0, 1]


def test_a_prefix_leaves_the_token_that_is_scored():
    """An end token that also pads is never scored, so the last one before it has to stay behind the prefix."""
    texts = [tokens(f"{QUESTION}!!"), tokens(f"{QUESTION}!!")]
    (prefix,) = shared_prefixes(texts, ["same"] * 2, ord("!"))
    assert len(prefix.ids) == len(QUESTION) - 1


@pytest.mark.parametrize(
    ("texts", "prompts"),
    [
        ([f"{QUESTION}x", f"{QUESTION}y"], ["one", "other"]),
        (["short x", "short y"], ["same", "same"]),
        ([f"{QUESTION}x", f"cut, {QUESTION}y"], ["same", "same"]),
    ],
)
def test_other_prompts_and_short_beginnings_are_not_shared(texts, prompts):
    found = shared_prefixes([tokens(text) for text in texts], prompts, None)
    assert [(prefix.ids, prefix.members) for prefix in found] == [([], [0]), ([], [1])]


def test_kept_prefixes_stay_within_their_number_of_tokens():
    prefixes = shared_prefixes([tokens(QUESTION + "x")] * 10, [number // 2 for number in range(10)], None)
    parts = list(_parts(prefixes, 60))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [prefix for part in parts for prefix in part] == prefixes


def test_what_is_in_front_of_texts_counts_for_the_budget():
    assert list(length_sorted_batches([4, 4, 4, 4], 16)) == [[0, 1, 2, 3]]
    assert list(length_sorted_batches([4, 4, 4, 4], 16, [4, 0, 4, 4])) == [[0, 1], [2, 3]]
    halved = TokenBudget(64)

    def forward(batch):
        if len(batch) > 2:
            raise MemoryError
        return

    batches = [batch for batch, _ in halved.run([4, 4, 4, 4], forward, [12, 12, 12, 12])]
    assert sorted(number for batch in batches for number in batch) == [0, 1, 2, 3]
    assert halved.tokens == 32
