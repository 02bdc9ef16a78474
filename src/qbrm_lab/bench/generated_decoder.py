"""A small decoder with random weights, for timing without a reward model at hand."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from qbrm.reward_models.sequence_classifier import SequenceClassifier

SPECIAL = ["<pad>", "<user>", "<assistant>", "<end>"]
CHAT_TEMPLATE = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
LONGEST = 4096


def generated_decoder(seed: int, dtype: str) -> SequenceClassifier:
    """A Llama of 4 layers and 3 million parameters that reads bytes, as a reward model."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        num_labels=1,
        use_cache=False,
    )
    model = LlamaForSequenceClassification(config).to(getattr(torch, dtype)).eval().requires_grad_(False)
    return SequenceClassifier(model, tokenizer, name="generated", revision=str(seed))


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, but for the special ones."""
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(vocabulary)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", chat_template=CHAT_TEMPLATE, model_max_length=LONGEST
    )
