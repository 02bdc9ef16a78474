"""Prompts as plain text, and text that tokenizers accept."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.preferences.base import Message, Prompt

SYSTEM = ("system", "developer")


def render(prompt: Prompt) -> str:
    """Write a conversation as one text: a single user turn as its text, others as ``role: text`` turns."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].text
    return "\n\n".join(f"{message.role}: {message.text}" for message in prompt)


def fold_system(prompt: Prompt) -> Prompt:
    """Put each system message at the beginning of the next user turn, with a blank line between.

    One that no user turn follows goes to the end of the last one; a prompt without any becomes a single user turn.
    """
    folded: list[Message] = []
    waiting: list[str] = []
    for message in prompt:
        if message.role in SYSTEM:
            waiting.append(message.content)
        elif message.role == "user":
            folded.append(message._replace(content=_joined([*waiting, message.content])))
            waiting = []
        else:
            folded.append(message)
    if waiting:
        last = next((at for at in reversed(range(len(folded))) if folded[at].role == "user"), None)
        if last is None:
            return (Message("user", _joined(waiting)), *folded)
        folded[last] = folded[last]._replace(content=_joined([folded[last].content, *waiting]))
    return tuple(folded)


def _joined(texts: Sequence[str]) -> str:
    return "\n\n".join(texts)


def valid_unicode(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which tokenizers refuse."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shared_beginning(one: Sequence[object], other: Sequence[object]) -> int:
    """How many first items two sequences have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
