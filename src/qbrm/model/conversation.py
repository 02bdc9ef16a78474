"""Conversations as Python code has them: a string, or a list of chat messages as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from qbrm.errors import InputError
from qbrm.preferences import Message, Prompt, as_response
from qbrm.preferences.conversation import CALLS, CARRIED
from qbrm.reward_models.text import valid_unicode

ChatMessage: TypeAlias = Mapping[str, Any]
PromptLike: TypeAlias = str | Sequence[ChatMessage]

SHOWN = 100  # characters of an input in a message


def as_prompt(prompt: PromptLike) -> Prompt:
    """A prompt as reward models take it.

    Raises:
        InputError: if it is neither a string nor a list of chat messages.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if not isinstance(prompt, Sequence) or not all(isinstance(message, Mapping) for message in prompt):
        expected = "a string or a list of {'role', 'content'} messages"
        raise InputError(f"prompt {_shown(prompt)}; expected {expected}.")
    return tuple(as_message(message) for message in prompt if isinstance(message, Mapping))


def as_message(message: ChatMessage) -> Message:
    """A chat message with its text, and with what else templates read: tool calls, names, reasoning.

    Raises:
        InputError: if its role is no string, or its content neither text, nor text parts, nor absent beside the rest.
    """
    role, content = message.get("role"), message.get("content")
    more = {key: message[key] for key in CARRIED if message.get(key)}
    if not isinstance(role, str):
        raise InputError(f"message {_shown(message)}; expected a string as role.")
    if content is None and more:
        # Templates tell a message that only calls tools from one that says nothing.
        return Message(role, "", _as_json({"content": None, **more} if more.keys() & set(CALLS) else more))
    return Message(role, _text(content, message), _as_json(more) if more else "")


def answered(prompt: PromptLike, completion: str | Sequence[ChatMessage]) -> tuple[PromptLike, str]:
    """What a policy was asked and what it answered, with all between in the prompt.

    The answer is the policy's last message. What stands behind it, such as a tool's result that used up the tokens
    which were left, is not its words and is left out.

    Args:
        prompt: a string or chat messages.
        completion: text, or messages of the policy, of tools and of users.

    Raises:
        InputError: if there is no message of the policy, or something is neither text nor a chat message.
    """
    if isinstance(completion, str):
        return prompt, completion
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    own = [place for place, message in enumerate(completion) if message.get("role") == "assistant"]
    if not own:
        raise InputError(
            f"completion {_shown(completion)} has no message of the assistant; expected text or such a message."
        )
    return [*asked, *completion[: own[-1]]], as_answer(completion[own[-1]])


def as_answer(message: ChatMessage) -> str:
    """What the assistant's message says, as a response that reward models take.

    Raises:
        InputError: if it is no message of the assistant, or none at all.
    """
    if message.get("role") != "assistant":
        raise InputError(f"message {_shown(message)} is not the assistant's; expected an answer.")
    return as_response((as_message(message),))


def _text(content: Any, message: ChatMessage) -> str:
    """Text, also in parts, as it is where a model also takes pictures."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
        return "".join(part["text"] for part in parts)
    raise InputError(f"message {_shown(message)}; expected text as content.")


def _shown(value: Any) -> str:
    """The beginning of what was given, for messages of one line."""
    written = repr(value)
    return written if len(written) <= SHOWN else f"{written[:SHOWN]}..."


def _as_json(more: Mapping[str, Any]) -> str:
    return valid_unicode(json.dumps(more, ensure_ascii=False, default=str))
