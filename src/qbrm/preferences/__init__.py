"""Preference sets: read from any source, split by prompt, taken apart into pairs."""

from qbrm.preferences.base import (
    Key,
    Message,
    Pair,
    Preference,
    PreferenceSet,
    Prompt,
    SetName,
    prompt_id,
    response_id,
    training_pairs,
)
from qbrm.preferences.source import preferences_of, read_preferences, sample_source
from qbrm.preferences.split import check_disjoint, split_by_prompt

__all__ = [
    "Key",
    "Message",
    "Pair",
    "Preference",
    "PreferenceSet",
    "Prompt",
    "SetName",
    "check_disjoint",
    "preferences_of",
    "prompt_id",
    "read_preferences",
    "response_id",
    "sample_source",
    "split_by_prompt",
    "training_pairs",
]
