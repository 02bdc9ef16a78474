"""Conversations, as files write them: lists of chat messages."""

from __future__ import annotations

import json

from qbrm.preferences.base import Message, Prompt
from qbrm.preferences.field import MISSING, Field

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SPEAKERS = {"human": "user", "gpt": "assistant"}  # of messages with "from" and "value", as ShareGPT wrote them
CALLS = ("tool_calls", "function_call")
# What chat templates read besides role and content. Anything else in a message (a model's name, a score, a date) is no
# part of what was said, and would tell the better answer from the worse one.
CARRIED = (*CALLS, "tool_call_id", "name", "tools", "reasoning_content", "reasoning", "thinking", "tool_plan")


def read_prompt(field: Field) -> Prompt:
    """A prompt that is a string (one turn of the user), a list of chat messages, or one of these.

    Raises:
        BadRowError: if it is neither, or has no text.
    """
    if isinstance(field.value, str):
        return (Message("user", field.text()),)
    if isinstance(field.value, dict):
        field = field._replace(value=[field.value])
    return read_conversation(field, "a non-empty string or a list of chat messages")


def read_conversation(field: Field, expected: str = "a list of chat messages") -> Prompt:
    """A list of chat messages of which some may be empty, as RMB has users who sent nothing, but not all.

    Raises:
        BadRowError: if it is not such a list.
    """
    messages = field.elements(expected)
    prompt = tuple(map(read_message, messages))
    if not any(message.text.strip() for message in prompt):
        raise messages[-1].child("content").refused("text in at least one message of the prompt")
    return prompt


def read_message(field: Field) -> Message:
    """One chat message: its role, its text, and what else chat templates read, such as tool calls.

    Raises:
        BadRowError: if it is none, or has something other than text as its content.
    """
    role, content = _role(field), _content(field)
    more = {key: value for key in CARRIED if (value := field.child(key).value) and not field.child(key).absent}
    if content.absent or content.value == []:
        if not more.keys() & set(CALLS):
            raise content.refused("a string or text parts, or tool calls beside it")
        return Message(role, "", _as_json(field, {"content": None} | more))
    return Message(role, _text(content), _as_json(field, more) if more else "")


def _role(message: Field) -> str:
    field, speaker = message.child("role"), message.child("from")
    known = "one of " + ", ".join(ROLES)
    if field.value is MISSING and speaker.value is not MISSING:
        field, role = speaker, SPEAKERS.get(speaker.text(known), speaker.text(known))
    else:
        role = field.text(known)
    if role not in ROLES:
        raise field.refused(known)
    return role


def _content(message: Field) -> Field:
    content, value = message.child("content"), message.child("value")
    return value if content.value is MISSING and value.value is not MISSING else content


def _text(content: Field) -> str:
    """The text of a message, which some files write in parts."""
    expected = "a string or text parts"
    if not isinstance(content.value, list):
        return content.string(expected)
    if not all(isinstance(part, dict) for part in content.value):
        raise content.refused(expected)
    parts = content.elements(expected)
    for part in parts:
        kind = part.child("type")
        if not kind.absent and kind.value != "text":
            raise kind.refused('"text", as there is no reading anything else')
    return "".join(part.child("text").string() for part in parts)


def _as_json(message: Field, more: dict[str, object]) -> str:
    written = json.dumps(more, ensure_ascii=False, default=str)
    return message._replace(path=f"{message.path}.{next(iter(more))}", value=written).string()
