r"""Transcripts of ``\n\nHuman:`` and ``\n\nAssistant:`` turns, as Anthropic publishes them (Bai et al., 2022)."""

from __future__ import annotations

import re

from qbrm.preferences.base import Message, Prompt
from qbrm.preferences.field import Field

ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(value: object) -> bool:
    """Whether a value is text that begins with a turn."""
    return isinstance(value, str) and TURN.match(value) is not None


def is_opening(value: object) -> bool:
    """Whether a value is a transcript that leaves the assistant's answer open."""
    return is_transcript(value) and str(value).rstrip().endswith("\n\nAssistant:")


def split_pair(chosen: Field, rejected: Field) -> tuple[Prompt, str, str]:
    """The turns that two transcripts share, and what follows in each.

    Raises:
        BadRowError: if one of them is no transcript, or they share no turn before an answer of the assistant.
    """
    a, b = _turns(chosen), _turns(rejected)
    shared = 0
    while shared < min(len(a), len(b)) - 1 and a[shared] == b[shared]:
        shared += 1
    while shared and not a[shared].role == b[shared].role == "assistant":
        shared -= 1
    if not shared:
        raise chosen.refused('a transcript that shares turns before an answer with "rejected"', "stands alone")
    return a[:shared], _text(a[shared:]), _text(b[shared:])


def read_opening(prompt: Field) -> Prompt:
    """The turns of a transcript before the answer that it leaves open.

    Raises:
        BadRowError: if there are none, or it is not text that UTF-8 can hold.
    """
    *turns, _ = _split(prompt.string())
    if not turns:
        raise prompt.refused("turns before the answer")
    return tuple(turns)


def _turns(transcript: Field) -> Prompt:
    pieces = TURN.split(transcript.string())
    if pieces[0].strip() or len(pieces) < 5:
        raise transcript.refused(r'a transcript of "\n\nHuman:" and "\n\nAssistant:" turns')
    return _split(transcript.string())


def _split(transcript: str) -> Prompt:
    pieces = TURN.split(transcript)
    pairs = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(ROLES[speaker], text.strip()) for speaker, text in pairs)


def _text(turns: Prompt) -> str:
    """What the assistant says, and further turns with their speakers."""
    speaker = {role: name for name, role in ROLES.items()}
    first, *rest = turns
    return "".join([first.content, *(f"\n\n{speaker[turn.role]}: {turn.content}" for turn in rest)])
