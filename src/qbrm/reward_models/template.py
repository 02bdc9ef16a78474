"""How a prompt and a response become the tokens of one sequence, and which tokens go when it is too long."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from jinja2 import TemplateError

from qbrm.errors import InputError, reason
from qbrm.preferences.base import Message, Prompt, response_messages
from qbrm.reward_models.text import render, shared_beginning, valid_unicode

CUT = "a long sequence loses the first tokens of the prompt, then the last of the response, and no other"

# Some templates write today's date, and rewards would change from day to day. The date is the default of Llama's.
DATE = "26 Jul 2024"
FIXED_DATE = f"{{%- macro strftime_now(form) -%}}{DATE}{{%- endmacro -%}}"

Span = tuple[int, int]
# An answer that no template rewrites or writes of its own accord.
SENTINEL = "7301946258"
# What a template raises for a conversation that it does not write.
REFUSED = (TemplateError, ValueError, TypeError, AttributeError, LookupError)


class Tokens(NamedTuple):
    """A prompt and a response as a model takes them: token ids and token type ids (which of two texts one is from).

    With the positions of those tokens that are the prompt's and the response's own, and not the template's.

    Attributes:
        ids: token ids.
        types: token type ids.
        prompt: positions that go first when the sequence is too long.
        response: positions that go after those, the last ones first.
        answer: positions of the response's tokens, whether or not they may go; none if the response is empty, or the
            tokenizer does not say which text a token is of.
    """

    ids: list[int]
    types: list[int]
    prompt: list[int]
    response: list[int]
    answer: list[int]

    def truncated(self, max_length: int) -> Tokens:
        """Without the prompt's first tokens, and if that is not enough the response's last, down to `max_length`.

        Raises:
            InputError: if the template's own tokens are more than that.
        """
        surplus = len(self.ids) - max_length
        if surplus <= 0:
            return self
        cuttable = self.prompt + self.response[::-1]
        if surplus > len(cuttable):
            raise InputError(
                f"maximum length is {max_length} tokens, the template alone takes {len(self.ids) - len(cuttable)}; "
                "expected room for a prompt and a response."
            )
        dropped = set(cuttable[:surplus])
        kept = [position for position in range(len(self.ids)) if position not in dropped]
        where = {position: index for index, position in enumerate(kept)}
        return Tokens(
            [self.ids[position] for position in kept],
            [self.types[position] for position in kept],
            [where[position] for position in self.prompt if position in where],
            [where[position] for position in self.response if position in where],
            [where[position] for position in self.answer if position in where],
        )

    def behind(self, start: int) -> Tokens:
        """What comes behind the first tokens."""
        places = ([at - start for at in part if at >= start] for part in (self.prompt, self.response, self.answer))
        return Tokens(self.ids[start:], self.types[start:], *places)


class Template(Protocol):
    """A way to write a prompt and a response as one sequence."""

    @property
    def description(self) -> str:
        """For `Identity.template`: changes with whatever changes the tokens, the tokenizer's vocabulary apart."""

    def tokens(self, prompt: Prompt, response: str) -> Tokens:
        """The whole sequence, however long."""

    def refusal(self, prompt: Prompt, response: str) -> str | None:
        """Why the template cannot write a prompt with a response; None if it can."""


@dataclass(frozen=True)
class ChatTemplate:
    """The tokenizer's chat template; the response is the assistant's last message.

    Args:
        tokenizer: of transformers.
        name: what the user calls the model.

    Raises:
        InputError: if the tokenizer has no chat template.
    """

    tokenizer: Any
    name: str

    def __post_init__(self) -> None:
        self._source()

    @property
    def source(self) -> str:
        """The template, with one date for all days."""
        source = self._source()
        return FIXED_DATE + source if "strftime_now" in source else source

    @property
    def description(self) -> str:
        """Names the template by its digest."""
        source = self._source()
        dated = f" as of {DATE}" if "strftime_now" in source else ""
        return f"chat template {hashlib.sha256(source.encode()).hexdigest()[:12]} of the tokenizer{dated}; {CUT}"

    def tokens(self, prompt: Prompt, response: str) -> Tokens:
        """The conversation with the response, as the template writes it.

        Raises:
            InputError: if the template refuses the conversation, as some do system messages.
        """
        answer = response_messages(response)
        turns = [*prompt, *answer]
        try:
            text = self._text(turns)
        except REFUSED as error:
            raise InputError(
                f"{self._refused(turns[:-1], error)}; expected a conversation that it knows to write."
            ) from error
        *prompt_spans, response_span = _content_spans(
            [valid_unicode(turn.content) for turn in turns], text, self._ending
        )
        whole = response_span if len(answer) == 1 and not answer[0].more else None
        return _encode(
            self.tokenizer,
            text,
            prompt_spans,
            response_span,
            whole or (shared_beginning(text, self._asked(prompt)), len(text)),
            add_special_tokens=False,
        )

    @cached_property
    def _ending(self) -> str | None:
        """What the template writes behind the last response; None if that cannot be told."""
        try:
            text = self._text([Message("user", "?"), Message("assistant", SENTINEL)])
        except REFUSED:
            return None
        _, found, ending = text.rpartition(SENTINEL)
        return ending if found else None

    def question(self, prompt: Prompt) -> str | None:
        """The prompt with what the template writes to have it answered; None if it writes nothing or refuses."""
        asked = self._asked(prompt)
        return asked if asked and asked != self._text(prompt) else None

    def _asked(self, prompt: Prompt) -> str:
        """The prompt as it is written in front of a response; empty if the template does not write it alone."""
        try:
            return self._text(prompt, add_generation_prompt=True)
        except REFUSED:
            return ""

    def refusal(self, prompt: Prompt, response: str) -> str | None:
        """Why the template does not write a prompt with a response; None if it does."""
        *before, last = [*prompt, *response_messages(response)]
        try:
            self._text([*before, last])
        except REFUSED as error:
            return self._refused(before, error)
        return None

    def _text(self, turns: Sequence[Message], **options: Any) -> str:
        messages = [turn._replace(content=valid_unicode(turn.content)).to_dict() for turn in turns]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, chat_template=self.source, **options))

    def _refused(self, prompt: Sequence[Message], error: Exception) -> str:
        roles = ", ".join(message.role for message in prompt)
        return f"the chat template of {self.name} refuses a prompt of the roles {roles} ({reason(error)})"

    def _source(self) -> str:
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise InputError(
                f"the tokenizer of {self.name} has no chat template; expected one, or the template 'plain' to be "
                "asked for (prompt and response as they are)."
            ) from error


@dataclass(frozen=True)
class PlainTemplate:
    """Prompt and response as they are: a pair of texts for tokenizers with a separator token, else one text.

    The pair is what encoders such as OpenAssistant's DeBERTa were trained on. In one text a blank line is between them.

    Args:
        tokenizer: of transformers.
        name: what the user calls the model.
    """

    tokenizer: Any
    name: str

    @property
    def description(self) -> str:
        """Says how prompt and response are joined."""
        joined = "one text with a blank line between" if self.tokenizer.sep_token_id is None else "a pair of texts"
        return f"prompt and response as {joined}; other prompts than one user turn are 'role: content' turns; {CUT}"

    def tokens(self, prompt: Prompt, response: str) -> Tokens:
        """The pair with the tokenizer's special tokens."""
        first, second = valid_unicode(render(prompt)), valid_unicode(response)
        if self.tokenizer.sep_token_id is None:
            text = f"{first}\n\n{second}"
            spans = (0, len(first)), (len(first) + 2, len(text))
            return _encode(self.tokenizer, text, [spans[0]], spans[1], spans[1], add_special_tokens=True)
        encoding = self.tokenizer(first, second, return_token_type_ids=True, verbose=False)
        ids, types = encoding["input_ids"], encoding["token_type_ids"]
        if not self.tokenizer.is_fast:
            return Tokens(ids, types, list(range(1, len(ids))), [], [])
        sides = encoding.sequence_ids()
        of_prompt, of_response = ([at for at, side in enumerate(sides) if side == wanted] for wanted in (0, 1))
        return Tokens(ids, types, of_prompt, of_response, of_response)

    def refusal(self, prompt: Prompt, response: str) -> str | None:
        """None: any prompt is some text."""
        return None


TEMPLATES: dict[str, type[ChatTemplate] | type[PlainTemplate]] = {"chat": ChatTemplate, "plain": PlainTemplate}


def _encode(
    tokenizer: Any,
    text: str,
    prompt: Sequence[Span | None],
    response: Span | None,
    answer: Span,
    *,
    add_special_tokens: bool,
) -> Tokens:
    """Tokenise, and tell the tokens of prompt and response from those of the template.

    Where that is not possible, with tokenizers written in Python and templates that rewrite a response, all tokens but
    the first, which may begin the text, count as the prompt's.

    Args:
        tokenizer: of transformers.
        text: the whole of it.
        prompt: where the prompt's messages are; None for one that is rewritten.
        response: where the response is; None if it is rewritten.
        answer: the same, or all that the response adds to the prompt.
        add_special_tokens: whether the tokenizer adds its own.
    """
    encoding = tokenizer(
        text, add_special_tokens=add_special_tokens, return_offsets_mapping=tokenizer.is_fast, verbose=False
    )
    ids = list(encoding["input_ids"])
    types = [0] * len(ids)
    if not tokenizer.is_fast:
        return Tokens(ids, types, list(range(1, len(ids))), [], [])
    spans: list[Span] = encoding["offset_mapping"]
    answered = [at for at, (start, end) in enumerate(spans) if max(start, answer[0]) < min(end, answer[1])]
    if response is None:
        return Tokens(ids, types, list(range(1, len(ids))), [], answered)
    of_prompt, of_response = [], []
    for at, (start, end) in enumerate(spans):
        if start == end:
            continue
        if response[0] <= start < response[1]:
            of_response.append(at)
        elif any(span is not None and span[0] <= start < span[1] for span in prompt):
            of_prompt.append(at)
    return Tokens(ids, types, of_prompt, of_response, answered)


def _content_spans(contents: Sequence[str], text: str, ending: str | None) -> list[Span | None]:
    """Where each message's content is in the written conversation, in order; templates may strip its ends.

    The last one is right before what the template ends with, if that is known: a short one may occur in there too.
    """
    spans: list[Span | None] = []
    start = 0
    for content in contents[:-1]:
        spans.append(_span(text.find(content.strip(), start), content))
        start = spans[-1][1] if spans[-1] else start
    last = contents[-1].strip()
    body = text.removesuffix(ending).rstrip() if ending and text.endswith(ending) else text
    at = len(body) - len(last) if body.endswith(last) else text.rfind(last)
    return [*spans, _span(at if at >= start else -1, contents[-1])]


def _span(at: int, content: str) -> Span | None:
    return None if at < 0 else (at, at + len(content.strip()))
