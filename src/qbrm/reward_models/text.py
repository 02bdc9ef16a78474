"""Prompts as plain text, and text that tokenizers accept."""

from __future__ import annotations

from qbrm.preferences.base import Prompt


def render(prompt: Prompt) -> str:
    """Write a conversation as one text: a single user turn as its text, others as ``role: text`` turns."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].text
    return "\n\n".join(f"{message.role}: {message.text}" for message in prompt)


def valid_unicode(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which tokenizers refuse."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
