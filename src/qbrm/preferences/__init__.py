"""Preference sets: read from any source, split by prompt, taken apart into pairs."""

from qbrm.preferences.base import Message, Preference, PreferenceSet, Prompt, SetName, prompt_id, response_id
from qbrm.preferences.memory import preferences_of
from qbrm.preferences.pairs import Pair, training_pairs
from qbrm.preferences.sample import sample_source
from qbrm.preferences.source import read_preferences
from qbrm.preferences.split import check_disjoint, split_by_prompt

__all__ = [
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
