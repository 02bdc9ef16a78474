"""The same words, dressed up."""

from __future__ import annotations

import re

from qbrm.probes.base import Answer
from qbrm.probes.sentences import long_words, sentence_starts, sentences

BOLD_EVERY = 6
CODE = "```"


def lists_added(answer: Answer) -> str:
    """Every sentence an item of a list; a response that has a list already, or code, stays as it is."""
    said = sentences(answer.response)
    if len(said) < 2 or CODE in answer.response or re.search(r"^\s*([-*•]|\d+[.)])\s", answer.response, re.MULTILINE):
        return answer.response
    return "\n".join(f"- {sentence}" for sentence in said)


def headings_added(answer: Answer) -> str:
    """A heading over the first half of the sentences and one over the second; not where headings or code are."""
    starts, text = sentence_starts(answer.response), answer.response
    if len(starts) < 2 or CODE in text or re.search(r"^#+\s", text, re.MULTILINE):
        return text
    half = starts[len(starts) // 2]
    return "\n\n".join(("## Overview", text[:half].strip(), "## Details", text[half:].rstrip()))


def bold_added(answer: Answer) -> str:
    """One long word in six in bold; not where there is bold text already."""
    if "**" in answer.response:
        return answer.response
    bold = set(long_words(answer.response)[::BOLD_EVERY])
    return re.sub(r"[^\W\d_]+", lambda word: f"**{word[0]}**" if word[0].lower() in bold else word[0], answer.response)
