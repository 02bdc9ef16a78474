"""Taking text apart: sentences and words, as far as probes need it."""

from __future__ import annotations

import re

# A sentence ends with a mark and space, or with a mark that East Asian scripts write without space, or with its line.
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the space around them."""
    return [part.strip() for part in _END.split(text) if part.strip()]


def sentence_starts(text: str) -> list[int]:
    """Where each of the sentences of a text begins."""
    after = [0, *(end.end() for end in _END.finditer(text))]
    before = [*(end.start() for end in _END.finditer(text)), len(text)]
    parts = ((start, text[start:end]) for start, end in zip(after, before, strict=True))
    return [start + len(part) - len(part.lstrip()) for start, part in parts if part.strip()]


def long_words(text: str) -> list[str]:
    """Distinct words of four or more letters, in order of first appearance."""
    return list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
