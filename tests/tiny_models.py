"""Reward models small enough to be made in a test: random weights, the real code of transformers, real tokenizers."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    Gemma2Config,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from qbrm.reward_models.quiet import quiet_transformers

SPECIAL = ["<pad>", "<bos>", "<eos>", "<sep>", "<user>", "<assistant>", "<system>"]
PAD, BOS, EOS, SEP = range(4)
CHAT_TEMPLATE = (
    "<bos>{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

SMALL = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 256, "head_dim": 8}
ENCODER = {**SMALL, "intermediate_size": 32, "max_position_embeddings": 256, "type_vocab_size": 2}

CONFIGS = {
    "llama": lambda: LlamaConfig(**DECODER),
    "qwen2": lambda: Qwen2Config(**DECODER),
    "qwen3": lambda: Qwen3Config(**DECODER),
    "gemma2": lambda: Gemma2Config(**DECODER, query_pre_attn_scalar=8),
    "gpt-neox": lambda: GPTNeoXConfig(**SMALL, intermediate_size=32, max_position_embeddings=256),
    "gpt2": lambda: GPT2Config(
        vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=256, bos_token_id=BOS, eos_token_id=EOS
    ),
    "deberta-v2": lambda: DebertaV2Config(
        **ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=16
    ),
    "roberta": lambda: RobertaConfig(**ENCODER),
    "gemma3, composite": lambda: Gemma3Config(
        text_config={**DECODER, "query_pre_attn_scalar": 8},
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    ),
}
DECODERS = ["llama", "qwen2", "qwen3", "gemma2", "gpt-neox", "gpt2", "gemma3, composite"]
ENCODERS = ["deberta-v2", "roberta"]


def tokenizer(chat_template=CHAT_TEMPLATE, pad=True, sep=False, **options):
    """One token a byte, but for the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <sep> $B:1 <eos>:1",
        special_tokens=[("<bos>", BOS), ("<eos>", EOS), ("<sep>", SEP)],
    )
    names = {"pad_token": "<pad>"} if pad else {}
    names |= {"sep_token": "<sep>"} if sep else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=chat_template,
        model_max_length=256,
        **names,
        **options,
    )


def classifier(kind="llama", num_labels=1, pad=PAD, seed=0):
    """A sequence classifier whose rewards differ from text to text."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    config.num_labels = num_labels
    for part in (config, config.get_text_config()):
        part.pad_token_id = pad
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def save(folder, model=None, tok=None):
    """Write a model folder as `save_pretrained` of transformers does."""
    with quiet_transformers():
        (model or classifier()).save_pretrained(folder)
        (tok or tokenizer()).save_pretrained(folder)
    return folder


def own_logit(model, tok, prompt, response):
    """What transformers gives for one conversation, alone and without padding; and the sequence of token ids."""
    messages = [*(message._asdict() for message in prompt), {"role": "assistant", "content": response}]
    inputs = tok.apply_chat_template(messages, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        return model(input_ids=inputs["input_ids"]).logits[0], inputs["input_ids"]
