"""The tokenizer of an exported reward model: it pads, cuts and writes conversations as the reward model reads them."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences import Message
from qbrm.reward_models.sequence_classifier import ClassifierParts
from qbrm.reward_models.template import ChatTemplate

QUESTION = (Message("user", "question"),)


def exported_tokenizer(parts: ClassifierParts, max_length: int, name: str) -> Any:
    """A copy of the reward model's tokenizer that gives its input without QBRM.

    It pads on the right with a token that the model passes over, has the chat template that the rewards were computed
    with, and none if that was ``plain``.

    Args:
        parts: of the reward model.
        max_length: tokens of prompt and response together.
        name: of the reward model, for messages.

    Raises:
        InputError: if no token can pad.
    """
    tokenizer = copy.deepcopy(parts.template.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(_padding_token(parts, tokenizer, name))
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    tokenizer.model_max_length = max_length
    tokenizer.chat_template = parts.template.source if isinstance(parts.template, ChatTemplate) else None
    accepted = inspect.signature(parts.model.forward).parameters
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in accepted]
    return tokenizer


def _padding_token(parts: ClassifierParts, tokenizer: Any, name: str) -> int:
    """The model's padding token; where it has none, a special token that does not end a text."""
    if parts.padding_token is not None and tokenizer.convert_ids_to_tokens(parts.padding_token) is not None:
        return parts.padding_token
    last = parts.template.tokens(QUESTION, "answer").ids[-1]
    for token in (tokenizer.pad_token_id, *tokenizer.all_special_ids):
        if token not in (None, last):
            return int(token)
    raise InputError(f"{name} has no token to pad with but the one that ends a text; expected a padding token.")
