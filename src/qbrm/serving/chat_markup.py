"""Read text that a chat template wrote back into messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.model.energy_reward_model import PromptLike
from qbrm.serving.chat_families import BEGINNINGS, FAMILIES, OTHER_MARKS, Family

# What closes a turn belongs to the template, not to the response.
CLOSING = re.compile(r"(?:<\|[^<>|\s]+\|>|<｜[^<>｜]+｜>|</s>|<eos>|<pad>|<end_of_turn>|<turn\|>|\[PAD\])\Z")
LONGEST_MARK = 64
# What may stand before a prompt: padding and beginning-of-text.
PADDING = re.compile(r"(?:<[^<>\s]+>|\[PAD\])*")
LONGEST_TAIL = 512


def _any(marks: Iterable[str]) -> str:
    """A pattern of the marks; of two that begin alike, the longer is tried first."""
    return "|".join(re.escape(mark) for mark in sorted(set(marks), key=len, reverse=True))


MARK = re.compile(rf"\s*(?:{_any(BEGINNINGS)}|<\|[^<>|\s]{{1,64}}\|?>|<｜[^<>｜\s]{{1,64}}｜>|{'|'.join(OTHER_MARKS)})")


class Conversation(NamedTuple):
    """A prompt, read.

    Attributes:
        messages: the turns up to the answer, or the prompt itself where it is plain text of the user.
        begun: what the prompt holds of the answer already.
        template: of the family that wrote it; None for plain text.
    """

    messages: PromptLike
    begun: str = ""
    template: Template | None = None

    def answer(self, response: str) -> str:
        """The assistant's answer, given what follows the prompt without the marks that end it: no reasoning."""
        return response if self.template is None else self.template.answer(self.begun + response)


class Template:
    """Reads what the templates of one family write. The time is proportional to the text, whatever it holds."""

    def __init__(self, family: Family) -> None:
        self._turns = {turn.opens: turn for turn in family.turns}
        self._spaced, self._answer_ends, self._closes = family.spaced, family.answer_ends, dict(family.thoughts)
        self._own_text = re.compile(family.own_text) if family.own_text is not None else None
        self._opening = re.compile(_any(self._turns))
        self._endings = {turn.ends: re.compile(_any(turn.ends)) for turn in family.turns}
        beginnings = [mark for mark in BEGINNINGS if not any(opens.startswith(mark) for opens in self._turns)]
        self._between = re.compile(rf"(?:\s|{_any(beginnings)})*")
        asking = [turn.opens for turn in family.turns if turn.role == "assistant"]
        thoughts = [mark for pair in family.thoughts for mark in pair]
        self._inner = re.compile(rf"\s*({_any([*thoughts, *family.answer_opens, *asking])})")
        self._asking = re.compile(rf"(?:{_any(asking)})(?:{_any(thoughts)}|\s)*\Z")
        # Marks of turns' ends, which nobody writes by chance before the last mark.
        ends = {end for turn in family.turns for end in turn.ends} - self._turns.keys()
        self._ends = tuple(mark for mark in ends if mark.startswith("<"))
        users = [set(turn.ends) for turn in family.turns if turn.role == "user"]
        self._ends_users = all(ends - self._turns.keys() for ends in users) or family.spaced

    def read(self, prompt: str) -> Conversation | None:
        """The conversation, or None if the prompt is not, from its beginning to its end, what this family writes."""
        turns: list[tuple[str | None, str]] = []
        place = self._skip(prompt, 0)
        while place < len(prompt):
            opening = self._opening.match(prompt, place)
            if opening is None:
                return None
            turn = self._turns[opening[0]]
            ending = self._endings[turn.ends].search(prompt, opening.end())
            if ending is None:
                asks = turn.role == "assistant" and bool(turns)
                return self._conversation(turns, prompt[opening.end() :]) if asks else None
            text, closed = prompt[opening.end() : ending.start()], ending[0] not in self._turns
            if not (closed or self._spaced) and CLOSING.search(text.rstrip()):
                return None  # ended by a mark that is not of this family
            turns.append((turn.role, text))
            place = self._skip(prompt, ending.end()) if closed else ending.start()
        return self._conversation(turns, "") if turns else None

    def lacks_beginning(self, prompt: str) -> bool:
        """Whether the prompt ends as this family asks for an answer, after some turn of it."""
        tail = prompt[-LONGEST_TAIL:]
        asking = self._asking.search(tail)
        if asking is None:
            return False
        before = prompt[: len(prompt) - len(tail) + asking.start()]
        return not self._ends_users or any(mark in before for mark in self._ends)

    def answer(self, said: str) -> str:
        """The answer in what the assistant said; reasoning that does not end counts as the answer."""
        place, end = self._after_thoughts(said), len(said)
        for mark in self._answer_ends:
            if said.endswith(mark, place, end):
                end -= len(mark)
        return self._trimmed(said[place:end])

    def _skip(self, prompt: str, place: int) -> int:
        skipped = self._between.match(prompt, place)
        return place if skipped is None else skipped.end()

    def _conversation(self, turns: Iterable[tuple[str | None, str]], begun: str) -> Conversation | None:
        messages = [{"role": role, "content": text} for role, text in map(self._message, turns) if role is not None]
        return Conversation(messages, begun, self) if messages else None

    def _message(self, turn: tuple[str | None, str]) -> tuple[str | None, str]:
        role, text = turn
        if role == "assistant":
            return role, self.answer(text)
        if role == "system" and self._own_text is not None:
            text, found = self._own_text.subn("", text, count=1)
            role = None if found and not text else role
        return role, self._trimmed(text)

    def _trimmed(self, text: str) -> str:
        return text.strip() if self._spaced else text

    def _after_thoughts(self, said: str) -> int:
        place, endless = 0, set[str]()
        while (mark := self._inner.match(said, place)) is not None:
            place, close = mark.end(), self._closes.get(mark[1])
            if close is not None and close not in endless:
                found = said.find(close, place)
                if found < 0:
                    endless.add(close)
                else:
                    place = found + len(close)
            while said.startswith("\n", place):
                place += 1
        return place


TEMPLATES = tuple(map(Template, FAMILIES))


def read_prompt(prompt: str) -> Conversation:
    """The messages of a prompt that a chat template wrote; any other prompt is one turn of the user, as it is.

    The whole prompt decides: it is a template's if it reads as such from its beginning to its end. Marks within a text
    are text.

    Raises:
        InputError: if it opens with a mark that no known template begins with, or goes on in another way than that, or
            lacks its beginning.
    """
    for template in TEMPLATES:
        if (conversation := template.read(prompt)) is not None:
            return conversation
    mark = MARK.match(prompt)
    if mark is not None:
        raise InputError(f"opens with the mark {mark[0].strip()!r}, but is not as a known chat template writes it")
    if any(template.lacks_beginning(prompt) for template in TEMPLATES):
        raise InputError("ends as a chat template asks for an answer, but does not begin as it should")
    return Conversation(prompt)


def strip_end(response: str) -> str:
    """The response without the marks that end it."""
    end = len(response)
    while True:
        tail = response[max(0, end - 2 * LONGEST_MARK) : end]
        mark = CLOSING.search(tail.rstrip())
        if mark is None:
            return response[:end]
        end -= len(tail) - mark.start()
