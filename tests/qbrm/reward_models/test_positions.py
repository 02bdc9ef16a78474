"""The longest text that a model takes: one token more would be beyond its table of positions."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    EsmConfig,
    GPT2Config,
    LongformerConfig,
    LukeConfig,
    MPNetConfig,
    MptConfig,
    OPTConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XLNetConfig,
)

from fixtures.conversations import PROMPTS, refused, reward_model
from fixtures.tiny_models import tokenizer
from qbrm.reward_models.positions import LONGEST_BY_DEFAULT, checked_length

pytestmark = pytest.mark.usefixtures("one_thread")

POSITIONS = 20
SMALL = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
ENCODER = {**SMALL, "intermediate_size": 32, "max_position_embeddings": POSITIONS}
SEQ2SEQ = {
    **{f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in [("layers", 1), ("ffn_dim", 16)]},
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "RoBERTa": lambda: RobertaConfig(**ENCODER),
    "RoBERTa, padding 0": lambda: RobertaConfig(**ENCODER, pad_token_id=0),
    "XLM-R": lambda: XLMRobertaConfig(**ENCODER),
    "CamemBERT": lambda: CamembertConfig(**ENCODER),
    "MPNet": lambda: MPNetConfig(**ENCODER),
    "Longformer": lambda: LongformerConfig(**ENCODER, attention_window=[4]),
    "LUKE": lambda: LukeConfig(**ENCODER, entity_vocab_size=10, entity_emb_size=8),
    "ESM": lambda: EsmConfig(**ENCODER, pad_token_id=1, position_embedding_type="absolute"),
    "BERT": lambda: BertConfig(**ENCODER),
    "DeBERTa": lambda: DebertaV2Config(
        **ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=16
    ),
    "BART": lambda: BartConfig(
        vocab_size=300, d_model=16, max_position_embeddings=POSITIONS, **SEQ2SEQ, **TOKENS, decoder_start_token_id=2
    ),
    "OPT": lambda: OPTConfig(**SMALL, ffn_dim=32, max_position_embeddings=POSITIONS, word_embed_proj_dim=16),
    "GPT-2": lambda: GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=POSITIONS, **TOKENS),
    "MPT": lambda: MptConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2, max_seq_len=POSITIONS),
}


def built(config):
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config).eval()


def unlimited():
    """A tokenizer that names no longest text, as many do not."""
    tok = tokenizer()
    tok.model_max_length = 10**30
    return tok


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_longest_text_fits_and_one_token_more_does_not(kind):
    model = built(CONFIGS[kind]())
    longest = checked_length(None, model, unlimited(), kind)
    assert POSITIONS - 2 <= longest <= POSITIONS
    ids = torch.full((1, longest + 1), 5)
    ids[0, [-2, -1]] = 2
    with torch.no_grad():
        model(input_ids=ids[:, :-1], attention_mask=torch.ones(1, longest))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=ids, attention_mask=torch.ones(1, longest + 1))


@pytest.mark.parametrize("kind", ["RoBERTa", "BART"])
def test_long_texts_are_cut_to_what_the_positions_hold(kind):
    model = built(CONFIGS[kind]())
    made = reward_model(model, unlimited())
    prompts, responses = PROMPTS * 2, ["so " * 50, "no"] * 4
    found = made.embed(prompts, responses).reward
    alone = [made.embed([prompt], [response]).reward[0] for prompt, response in zip(prompts, responses, strict=True)]
    np.testing.assert_allclose(found, alone, rtol=0, atol=2e-6)
    assert f"expected 1 to {made.identity.max_length} tokens" in refused(
        reward_model, model, unlimited(), max_length=POSITIONS + 1
    )


def test_relative_positions_bound_no_length():
    config = XLNetConfig(vocab_size=300, d_model=16, n_layer=1, n_head=2, d_inner=16)
    assert checked_length(None, built(config), unlimited(), "XLNet") == LONGEST_BY_DEFAULT


def test_positions_counted_from_no_padding_token_are_refused():
    assert "pad_token_id" in refused(reward_model, built(RobertaConfig(**ENCODER, pad_token_id=None)), unlimited())
