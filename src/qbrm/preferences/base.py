"""What a preference is, whatever file it was read from, and the training pairs that it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

SetName = Literal["pairwise", "bon"]


class Message(NamedTuple):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Prompt = tuple[Message, ...]
Key = tuple[str, str]
"""Prompt id and response id: what tells one (prompt, response) from another."""


def prompt_id(prompt: Prompt) -> str:
    """Identify a prompt by its content, so that equal prompts in different files share one id."""
    return _digest(json.dumps(prompt, ensure_ascii=False))


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


@dataclass(frozen=True)
class PreferenceSet:
    """Preferences from one source, in file order."""

    name: str
    preferences: tuple[Preference, ...]

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
