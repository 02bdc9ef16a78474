"""Prompts, as files write them."""

from __future__ import annotations

from qbrm.preferences.base import Message, Prompt
from qbrm.preferences.field import Field

ROLES = ("system", "developer", "user", "assistant", "tool")


def read_prompt(field: Field) -> Prompt:
    """A prompt that is a string (one turn of the user) or a list of chat messages, none of them blank.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(field.value, str):
        return (Message("user", field.text()),)
    messages = field.elements("a non-empty string or a list of chat messages")
    return tuple(Message(_role(message), message.child("content").text()) for message in messages)


def read_conversation(field: Field) -> Prompt:
    """A list of chat messages of which some may be empty, as RMB has users who sent nothing, but not all.

    Raises:
        InputError: if it is not such a list.
    """
    messages = field.elements("a list of chat messages")
    prompt = tuple(Message(_role(message), message.child("content").string()) for message in messages)
    if not any(message.content.strip() for message in prompt):
        raise messages[-1].child("content").refused("text in at least one message of the prompt")
    return prompt


def _role(message: Field) -> str:
    field, known = message.child("role"), "one of " + ", ".join(ROLES)
    role = field.text(known)
    if role not in ROLES:
        raise field.refused(known)
    return role
