"""Training rollouts, as trainers send them: a prompt and the policy's response to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from qbrm.errors import InputError
from qbrm.model.conversation import ChatMessage, PromptLike, as_answer
from qbrm.serving.chat_markup import PADDING, read_prompt, strip_end

Row = TypeVar("Row")

NO_ROLLOUT = "is not the beginning of its query, nor is its end; expected a query of prompt and response."
LEAST_OVERLAP = 16
MOST_PLACES = 256


class Rollout(NamedTuple):
    """A prompt and the response to be scored."""

    prompt: PromptLike
    response: str


def read_rows(name: str, read: Callable[[Row], Rollout], rows: Iterable[Row]) -> list[Rollout]:
    """Read every row.

    Raises:
        InputError: if one cannot be read; the message begins with `name` and the row's number.
    """
    rollouts = []
    for number, row in enumerate(rows):
        try:
            rollouts.append(read(row))
        except InputError as error:
            raise InputError(f"{name} {number} {error}") from error
    return rollouts


def read_query(query: str, prompt: str) -> Rollout:
    """A rollout that is one text, of which the prompt is known.

    Raises:
        InputError: if the query does not begin with the prompt, or the prompt has marks that are not known.
    """
    conversation, response = read_prompt(prompt), response_in(query, prompt)
    if response is None:
        raise InputError(NO_ROLLOUT)
    return Rollout(conversation.messages, conversation.answer(response))


def read_asked(query: str, prompt: str, messages: Sequence[ChatMessage]) -> Rollout:
    """A rollout that is one text, of which the prompt is known both as text, in whatever template, and as messages.

    Raises:
        InputError: if the query does not begin with the prompt.
    """
    response = response_in(query, prompt)
    if response is None:
        raise InputError(NO_ROLLOUT)
    try:
        return Rollout(messages, read_prompt(prompt).answer(response))
    except InputError:  # written by a template that is not known, which only its end needs
        return Rollout(messages, response)


def read_response(prompt: str | Sequence[ChatMessage], response: str) -> Rollout:
    """A rollout whose response stands apart; the prompt is text or messages.

    Raises:
        InputError: if the prompt has marks that are not known.
    """
    if not isinstance(prompt, str):
        return Rollout(prompt, strip_end(response))
    conversation = read_prompt(prompt)
    return Rollout(conversation.messages, conversation.answer(strip_end(response)))


def read_text(text: str) -> Rollout:
    """A rollout that is one text, written by a chat template, of which the assistant's last turn is the response.

    Raises:
        InputError: if it has no marks, or such as are not known, or does not end with a turn of the assistant.
    """
    conversation = read_prompt(text)
    if conversation.template is None or isinstance(conversation.messages, str):
        raise InputError("has no marks of a chat template; expected a conversation as one writes it, or messages.")
    if conversation.begun:
        return Rollout(conversation.messages, conversation.template.answer(strip_end(conversation.begun)))
    return read_messages(conversation.messages)


def read_messages(messages: Sequence[ChatMessage]) -> Rollout:
    """A rollout that is messages, the last of them the response.

    Raises:
        InputError: if there is nothing before the assistant's last message, or no such message.
    """
    *prompt, last = messages
    if not prompt or last["role"] != "assistant":
        raise InputError("does not end with the assistant's answer to something; expected a message of role assistant.")
    return Rollout(prompt, as_answer(last))


def response_in(query: str, prompt: str) -> str | None:
    """The response in a query, which is the prompt and then the response; None where the prompt is not found.

    OpenRLHF decodes a query from tokens, so it is not always the prompt's own text: tokenizers add or drop spaces, old
    clients leave padding in front, and a prompt that was too long has lost its beginning. So where the query does not
    simply begin with the prompt, both are compared without their spaces, behind any padding, and failing that the
    query may begin with the end of the prompt.

    Args:
        query: what the policy's tokenizer decoded, special tokens included.
        prompt: what the policy was given.
    """
    if query.startswith(prompt):
        return strip_end(query[len(prompt) :])
    places = [place for place, letter in enumerate(query) if not letter.isspace()]
    seen, wanted = "".join(query[place] for place in places), "".join(prompt.split())
    end = _after_padding(seen, wanted) or _after_overlap(seen, wanted)
    if end is None:
        return None
    rest = query[places[end - 1] + 1 :]
    return strip_end(rest.lstrip() if prompt[-1:].isspace() else rest)


def _after_padding(seen: str, wanted: str) -> int | None:
    start = seen.find(wanted)
    return start + len(wanted) if start >= 0 and PADDING.fullmatch(seen, 0, start) else None


def _after_overlap(seen: str, wanted: str) -> int | None:
    """Where the longest end of `wanted` ends that `seen` begins with."""
    # Cutting tokens may halve a letter, which decodes as a replacement character.
    damaged = len(seen) - len(seen.lstrip("\ufffd"))
    opening, start = seen[damaged : damaged + LEAST_OVERLAP], -1
    for _ in range(MOST_PLACES):
        start = wanted.find(opening, start + 1)
        if start < 0 or len(wanted) - start < LEAST_OVERLAP:
            return None
        if seen.startswith(wanted[start:], damaged):
            return damaged + len(wanted) - start
    return None
