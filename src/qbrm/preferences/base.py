"""What a preference is, whatever file it was read from, and the training pairs that it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

SetName = Literal["pairwise", "bon"]


class Message(NamedTuple):
    """One turn of a conversation, as chat templates take it.

    Attributes:
        role: ``system``, ``user``, ``assistant``, ``tool``, ...
        content: its text; empty where there is none, as beside a tool call.
        more: what else it has, such as tool calls or reasoning, as the text of a JSON object; empty for nothing. It may
            have ``"content": null``, for templates that tell no content from an empty one.
    """

    role: str
    content: str
    more: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As chat templates take it."""
        return {"role": self.role, "content": self.content} | (json.loads(self.more) if self.more else {})

    @property
    def text(self) -> str:
        """What stands for it where there is no chat template: the content, and what else it has on the next line."""
        return "\n".join(part for part in (self.content, self.more) if part)


Prompt = tuple[Message, ...]
Key = tuple[str, str]
"""Prompt id and response id: what tells one (prompt, response) from another."""


class Completion(str):
    """A response that is not one assistant message of nothing but text: a tool call, or several messages.

    It is the text that stands for those messages wherever text is read: for its id, its length, a sentence encoder. A
    chat template writes the messages themselves.

    Attributes:
        messages: the messages, the last of them the assistant's.
    """

    __slots__ = ("messages",)
    messages: tuple[Message, ...]

    def __new__(cls, messages: tuple[Message, ...]) -> Completion:
        """Make the text that stands for messages."""
        first, *rest = messages
        opening = first.text if first.role == "assistant" else f"{first.role}: {first.text}"
        made = super().__new__(cls, "\n\n".join([opening, *(f"{turn.role}: {turn.text}" for turn in rest)]))
        made.messages = messages
        return made

    def __reduce__(self) -> tuple[type[Completion], tuple[tuple[Message, ...]]]:
        return type(self), (self.messages,)


def as_response(messages: tuple[Message, ...]) -> str:
    """The messages of a response: their text if that is all, else a :class:`Completion`."""
    plain = len(messages) == 1 and messages[0].role == "assistant" and not messages[0].more
    return messages[0].content if plain else Completion(messages)


def response_messages(response: str) -> tuple[Message, ...]:
    """What a chat template writes of a response."""
    return response.messages if isinstance(response, Completion) else (Message("assistant", response),)


def prompt_id(prompt: Prompt) -> str:
    """Identify a prompt by its content, so that equal prompts in different files share one id."""
    turns = [message if message.more else message[:2] for message in prompt]
    return _digest(json.dumps(turns, ensure_ascii=False))


def response_id(response: str) -> str:
    """Identify a response by its content."""
    return _digest(response)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Preference:
    """A prompt with one chosen and one or more rejected responses.

    Attributes:
        uid: identifier, unique in its source and set.
        prompt: the conversation up to the response.
        chosen: the preferred response.
        rejected: the responses it was preferred to.
        category: task or harm category, ``/``-separated.
        set: ``pairwise`` (one rejected response) or ``bon`` (best of several).
        place: where it was read, such as ``prefs.jsonl, line 12``; empty if unknown.
    """

    uid: str
    prompt: Prompt
    chosen: str
    rejected: tuple[str, ...]
    category: str
    set: SetName
    place: str = field(default="", compare=False)

    @cached_property
    def prompt_id(self) -> str:
        """Content hash of the prompt; splits never separate two preferences that share it."""
        return prompt_id(self.prompt)

    @property
    def responses(self) -> tuple[str, ...]:
        """Chosen response first, then the rejected ones."""
        return (self.chosen, *self.rejected)


class PairCount(NamedTuple):
    """The (chosen, rejected) pairs of preferences: those to train on, and those that :func:`training_pairs` leaves out.

    Attributes:
        distinct: pairs to train on.
        repeated: pairs that occurred before, and are left out.
        equal: pairs of two identical texts, which are left out too.
    """

    distinct: int
    repeated: int = 0
    equal: int = 0


@dataclass(frozen=True)
class PreferenceSet:
    """Preferences from one source, in file order.

    Attributes:
        name: of the source.
        preferences: what was read.
        left_out: how many of the source's rows were left out because they are no preferences, by what is wrong.
    """

    name: str
    preferences: tuple[Preference, ...]
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.preferences)

    def __iter__(self) -> Iterator[Preference]:
        return iter(self.preferences)

    @cached_property
    def prompt_ids(self) -> tuple[str, ...]:
        """Distinct prompt ids in order of first appearance."""
        return tuple(dict.fromkeys(preference.prompt_id for preference in self.preferences))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Distinct categories, sorted."""
        return tuple(sorted({preference.category for preference in self.preferences}))

    @property
    def n_pairs(self) -> int:
        """Number of (chosen, rejected) pairs over both sets."""
        return sum(len(preference.rejected) for preference in self.preferences)

    @cached_property
    def pair_count(self) -> PairCount:
        """How many of the pairs are trained on, and how many are left out."""
        equal = sum(rejected == preference.chosen for preference in self for rejected in preference.rejected)
        distinct = len(training_pairs(self))
        return PairCount(distinct, self.n_pairs - distinct - equal, equal)

    def responses(self) -> dict[Key, tuple[Prompt, str]]:
        """Every distinct (prompt, response), keyed by (prompt id, response id): what a reward model has to embed."""
        return {
            (preference.prompt_id, response_id(response)): (preference.prompt, response)
            for preference in self.preferences
            for response in preference.responses
        }

    def of_prompts(self, prompt_ids: Collection[str]) -> PreferenceSet:
        """The preferences whose prompt is among `prompt_ids`."""
        wanted = frozenset(prompt_ids)
        return PreferenceSet(self.name, tuple(p for p in self.preferences if p.prompt_id in wanted))


class Pair(NamedTuple):
    """A chosen response and one that was rejected for it, by the ids that feature tables know them by."""

    prompt_id: str
    chosen_response_id: str
    rejected_response_id: str
    category: str


def training_pairs(preferences: Iterable[Preference]) -> list[Pair]:
    """Pair each chosen response with each rejected one, over both sets.

    A pair that occurs again (RMB has most of its best-of-N pairs in its pairwise set too) is kept once, under the first
    category it has. A pair of two identical texts says nothing and is left out.

    Returns:
        The pairs in the order of `preferences`; none, if that has none.
    """
    pairs: dict[tuple[str, str, str], Pair] = {}
    for preference in preferences:
        chosen = response_id(preference.chosen)
        for rejected in map(response_id, preference.rejected):
            if rejected != chosen:
                pair = Pair(preference.prompt_id, chosen, rejected, preference.category)
                pairs.setdefault(pair[:3], pair)
    return list(pairs.values())
