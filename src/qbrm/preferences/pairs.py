"""Pairs of responses, as training takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from qbrm.preferences.base import Preference, response_id


class Pair(NamedTuple):
    """A chosen response and one that was rejected for it, by the ids that feature tables know them by."""

    prompt_id: str
    chosen_response_id: str
    rejected_response_id: str
    category: str


def training_pairs(preferences: Iterable[Preference]) -> list[Pair]:
    """Pair each chosen response with each rejected one, over both sets.

    A pair that occurs again (RMB has most of its best-of-N pairs in its pairwise set too) is kept once, under the first
    category it has. A pair of two identical texts says nothing and is left out.

    Returns:
        The pairs in the order of `preferences`; none, if that has none.
    """
    pairs: dict[tuple[str, str, str], Pair] = {}
    for preference in preferences:
        chosen = response_id(preference.chosen)
        for rejected in map(response_id, preference.rejected):
            if rejected != chosen:
                pair = Pair(preference.prompt_id, chosen, rejected, preference.category)
                pairs.setdefault(pair[:3], pair)
    return list(pairs.values())
