"""Preference sets: read from any source, split by prompt, taken apart into pairs."""

from qbrm.preferences.base import (
    Completion,
    Key,
    Message,
    Pair,
    PairCount,
    Preference,
    PreferenceSet,
    Prompt,
    SetName,
    as_response,
    prompt_id,
    response_id,
    response_messages,
    training_pairs,
)
from qbrm.preferences.source import preferences_of, read_preferences, sample_source
from qbrm.preferences.split import check_disjoint, split_by_prompt

__all__ = [
    "Completion",
    "Key",
    "Message",
    "Pair",
    "PairCount",
    "Preference",
    "PreferenceSet",
    "Prompt",
    "SetName",
    "as_response",
    "check_disjoint",
    "preferences_of",
    "prompt_id",
    "read_preferences",
    "response_id",
    "response_messages",
    "sample_source",
    "split_by_prompt",
    "training_pairs",
]
