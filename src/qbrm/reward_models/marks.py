"""What a template writes around a response, as tokens: where a response is, told from the tokens of a text alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from qbrm.preferences.base import Message, Prompt
from qbrm.reward_models.template import ChatTemplate, PlainTemplate, Tokens
from qbrm.reward_models.text import shared_beginning

# Texts that differ in all that a template leaves to its user, also in what is next to its own tokens.
PROMPTS: tuple[Prompt, ...] = (
    (Message("user", "Why?"),),
    (Message("user", "A colour"), Message("assistant", "Red."), Message("user", "7 more\n")),
    (Message("system", "Be brief."), Message("user", "Is it late")),
    (Message("user", "Go on:"), Message("assistant", "Well,")),
)
RESPONSES = ("Yes", "7", "**No**", "\n\nyes", " (so\n")
MOST_BYTES = 4  # of a character in UTF-8


class Marks(NamedTuple):
    """Tokens around a response.

    Attributes:
        header: right before it, blanks apart, the same behind every prompt; begins with an added token of the
            tokenizer, which no text becomes by chance.
        preamble: what the template itself writes between header and response, such as a block of empty reasoning; not
            before a response that has its own.
        ending: all that comes behind it, blanks right behind it apart.
    """

    header: list[int]
    preamble: list[int]
    ending: list[int]


def marks_of(template: ChatTemplate | PlainTemplate) -> Marks | None:
    """The tokens around every response that a template writes; None if they differ, or are but ordinary text."""
    taken = (each for each in product(PROMPTS, RESPONSES) if template.refusal(*each) is None)
    texts = [template.tokens(*each) for each in taken]
    if not texts or not all(text.answer for text in texts):
        return None
    strips = isinstance(template, ChatTemplate)
    before, behind = (list(part) for part in zip(*(_around(text, template, strips) for text in texts), strict=True))
    added = template.tokenizer.added_tokens_decoder
    header = _common_end(before)
    first = next((at for at, token in enumerate(header) if token in added), None)
    if first is None or any(part != behind[0] for part in behind):
        return None
    header = header[first:]
    size = len(header) - _beyond_generation_prompt(template, before[0])
    while size > 0 and _is_blank(template.tokenizer, header[size - 1]):
        size -= 1
    if not added.keys() & set(header[: max(size, 0)]):
        size = len(header)
    return Marks(header[:size], header[size:], behind[0])


def blanks_of(tokenizer: Any) -> list[list[int]]:
    """Tokens of nothing but white space, each as a list; and the tokens of white space that takes several."""
    anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
    decoded = _decoded(tokenizer, anchor, [[token] for token in range(len(tokenizer))])
    single = [[token] for token, text in enumerate(decoded) if text.isspace()]
    spaces = [chr(code) for code in range(0x3001) if chr(code).isspace()]
    whole = [tokenizer(f"x{space}x", add_special_tokens=False)["input_ids"] for space in spaces]
    several = [ids[len(anchor) : -len(anchor)] for ids in whole if ids[: len(anchor)] == ids[-len(anchor) :] == anchor]
    return single + [
        ids
        for ids, text in zip(several, _decoded(tokenizer, anchor, several), strict=True)
        if 1 < len(ids) <= MOST_BYTES and text.isspace()
    ]


def _around(text: Tokens, template: ChatTemplate | PlainTemplate, strips: bool) -> tuple[list[int], list[int]]:
    """What comes before a response and behind it, without the blanks next to it if a response is read without them."""
    start, end = text.answer[0], text.answer[-1] + 1
    while strips and start > 0 and _is_blank(template.tokenizer, text.ids[start - 1]):
        start -= 1
    while strips and end < len(text.ids) and _is_blank(template.tokenizer, text.ids[end]):
        end += 1
    return text.ids[:start], text.ids[end:]


def _beyond_generation_prompt(template: ChatTemplate | PlainTemplate, before: Sequence[int]) -> int:
    """How many tokens in front of a response to the first prompt are no part of the prompt for generation.

    Zero where the template has no such prompt.
    """
    if not isinstance(template, ChatTemplate) or (question := template.question(PROMPTS[0])) is None:
        return 0
    asked = list(template.tokenizer(question, add_special_tokens=False)["input_ids"])
    return len(before) - shared_beginning(before, asked)


def _is_blank(tokenizer: Any, token: int) -> bool:
    anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
    return _decoded(tokenizer, anchor, [[token]])[0].isspace()


def _decoded(tokenizer: Any, anchor: list[int], tokens: Sequence[Sequence[int]]) -> list[str]:
    """The text of tokens as they stand inside of a text: at its beginning, some decoders drop a space."""
    texts = tokenizer.batch_decode([[*anchor, *part] for part in tokens], clean_up_tokenization_spaces=False)
    return [str(text).removeprefix("x") for text in texts]


def _common_end(rows: Sequence[Sequence[int]]) -> list[int]:
    """What all rows end with."""
    first = rows[0]
    size = min(shared_beginning(first[::-1], row[::-1]) for row in rows)
    return list(first[len(first) - size :])
