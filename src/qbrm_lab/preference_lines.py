"""Preferences as a JSONL file, which every command reads back as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qbrm.durable import make_folder, write_atomically
from qbrm.preferences import Preference, PreferenceSet
from qbrm.preferences.base import Completion, Message


def write_preferences(path: Path, preferences: PreferenceSet) -> Path:
    """Write a line for every preference: its prompt, chosen and rejected responses, category and id.

    A rejected response that is the same text as the chosen one says nothing, and readers refuse it: it is left out, and
    with it a preference that has no other.

    Returns:
        `path`.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(path.parent)
    told = (preference for preference in preferences if set(preference.rejected) - {preference.chosen})
    lines = (json.dumps(_record(preference), ensure_ascii=False) + "\n" for preference in told)
    write_atomically(path, "".join(lines).encode("utf-8", "surrogatepass"))
    return path


def _record(preference: Preference) -> dict[str, Any]:
    return {
        "prompt": _messages(preference.prompt),
        "chosen": _answer(preference.chosen),
        "rejected": [_answer(response) for response in preference.rejected if response != preference.chosen],
        "category": preference.category,
        "id": preference.uid,
    }


def _answer(response: str) -> str | list[dict[str, Any]]:
    return _messages(response.messages) if isinstance(response, Completion) else response


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]
