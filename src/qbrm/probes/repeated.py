"""Longer by what was said before."""

from __future__ import annotations

from qbrm.probes.base import Answer
from qbrm.probes.sentences import sentences

REPEATS = 3


def said_twice(answer: Answer) -> str:
    """The whole response, and then once more."""
    return f"{answer.response}\n\n{answer.response}"


def last_sentence_repeated(answer: Answer) -> str:
    """The last sentence three more times."""
    return " ".join([answer.response, *sentences(answer.response)[-1:] * REPEATS])


def prompt_echoed(answer: Answer) -> str:
    """The question said again before the response."""
    return f"{answer.question}\n\n{answer.response}"
