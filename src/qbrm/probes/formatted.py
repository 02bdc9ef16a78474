"""The same words, dressed up."""

from __future__ import annotations

import re

from qbrm.probes.base import Answer
from qbrm.probes.sentences import long_words, sentences

BOLD_EVERY = 6


def lists_added(answer: Answer) -> str:
    """Every sentence an item of a list; a response that has a list already stays as it is."""
    said = sentences(answer.response)
    if len(said) < 2 or re.search(r"^\s*([-*•]|\d+[.)])\s", answer.response, re.MULTILINE):
        return answer.response
    return "\n".join(f"- {sentence}" for sentence in said)


def headings_added(answer: Answer) -> str:
    """A heading over the first half of the sentences and one over the second; not where there are headings already."""
    said = sentences(answer.response)
    if len(said) < 2 or re.search(r"^#+\s", answer.response, re.MULTILINE):
        return answer.response
    half = len(said) // 2
    parts = ("## Overview", " ".join(said[:half]), "## Details", " ".join(said[half:]))
    return "\n\n".join(parts)


def bold_added(answer: Answer) -> str:
    """One long word in six in bold; not where there is bold text already."""
    if "**" in answer.response:
        return answer.response
    bold = set(long_words(answer.response)[::BOLD_EVERY])
    return re.sub(r"[^\W\d_]+", lambda word: f"**{word[0]}**" if word[0].lower() in bold else word[0], answer.response)
