"""The tokenizer of an exported reward model: it pads, cuts and writes conversations as the reward model reads them."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal, TypeAlias

from qbrm.errors import InputError
from qbrm.preferences import Message
from qbrm.reward_models.sequence_classifier import ClassifierParts
from qbrm.reward_models.template import ChatTemplate

Takes: TypeAlias = Literal["conversation", "pair", "text"]

QUESTION = (Message("user", "question"),)
# A template's beginning that does what `fold_system` of qbrm.reward_models.text does before a template.
FOLD_SYSTEM = """\
{%- set folded = namespace(turns=[], waiting=[]) -%}
{%- for message in messages -%}
    {%- if message['role'] in ('system', 'developer') -%}
        {%- set folded.waiting = folded.waiting + [message['content']] -%}
    {%- elif message['role'] == 'user' -%}
        {%- set content = (folded.waiting + [message['content']]) | join('\n\n') -%}
        {%- set folded.turns = folded.turns + [dict(message, content=content)] -%}
        {%- set folded.waiting = [] -%}
    {%- else -%}
        {%- set folded.turns = folded.turns + [message] -%}
    {%- endif -%}
{%- endfor -%}
{%- if folded.waiting -%}
    {{- raise_exception('a system message that no user turn follows') -}}
{%- endif -%}
{%- set messages = folded.turns -%}
"""


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
    tokenizer.chat_template = _chat_template(parts)
    accepted = set(inspect.signature(parts.model.forward).parameters)
    accepted -= set() if parts.padding.types else {"token_type_ids"}
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in accepted]
    return tokenizer


def taken_by(tokenizer: Any) -> Takes:
    """What to give an exported tokenizer."""
    if tokenizer.chat_template is not None:
        return "conversation"
    return "text" if tokenizer.sep_token_id is None else "pair"


def _chat_template(parts: ClassifierParts) -> str | None:
    if not isinstance(parts.template, ChatTemplate):
        return None
    return FOLD_SYSTEM + parts.template.source if parts.fold_system else parts.template.source


def _padding_token(parts: ClassifierParts, tokenizer: Any, name: str) -> int:
    """The model's padding token; where it has none, a special token that does not end a text."""
    stated, known = parts.padding.token, parts.padding.tokens
    if stated is not None and tokenizer.convert_ids_to_tokens(stated) is not None:
        return stated
    last = parts.template.tokens(QUESTION, "answer").ids[-1]
    for token in (tokenizer.pad_token_id, *tokenizer.all_special_ids):
        if token is not None and token != last and token < known:
            return int(token)
    raise InputError(f"{name} has no token to pad with but the one that ends a text; expected a padding token.")
