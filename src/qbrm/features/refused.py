"""Texts that a reward model cannot take, named before any is embedded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from qbrm.errors import InputError
from qbrm.features.engine import Engine
from qbrm.features.plan import Texts
from qbrm.preferences.base import Key, Preference, PreferenceSet, response_id
from qbrm.reward_models.base import Refusal

MOST_NAMED = 20


class RefusedTextsError(InputError):
    """A reward model cannot take some of the texts.

    Attributes:
        keys: prompt id and response id of those texts; see :func:`rows_of`.
    """

    def __init__(self, message: str, keys: frozenset[Key]) -> None:
        super().__init__(message, keys)
        self.keys = keys

    def __str__(self) -> str:
        return str(self.args[0])


def rows_of(preferences: PreferenceSet, keys: Collection[Key]) -> list[Preference]:
    """The preferences that have one of some texts as an answer, in file order."""
    return [
        preference
        for preference in preferences
        if any((preference.prompt_id, response_id(response)) in keys for response in preference.responses)
    ]


def without_rows(preferences: PreferenceSet, keys: Collection[Key]) -> PreferenceSet:
    """The preferences that have none of some texts as an answer."""
    refused = set(rows_of(preferences, keys))
    return replace(preferences, preferences=tuple(kept for kept in preferences if kept not in refused))


def require_all_taken(engine: Engine, preferences: PreferenceSet, texts: Texts) -> None:
    """Check that a reward model can take texts; nothing is embedded.

    Args:
        engine: has the reward model.
        preferences: where the texts are from.
        texts: prompt and response, by their ids.

    Raises:
        RefusedTextsError: naming the rows of those that it cannot take: at most twenty, then a count.
    """
    keys = list(texts)
    found = engine.refusals([texts[key][0] for key in keys], [texts[key][1] for key in keys])
    if found:
        refused = {keys[refusal.number]: refusal for refusal in found}
        raise RefusedTextsError(_sentence(preferences, refused), frozenset(refused))


def _sentence(preferences: PreferenceSet, refused: Mapping[Key, Refusal]) -> str:
    rows = rows_of(preferences, refused)
    causes: dict[str, list[str]] = {}
    for row in rows[:MOST_NAMED]:
        keys = ((row.prompt_id, response_id(response)) for response in row.responses)
        cause = next(refused[key].reason for key in keys if key in refused)
        causes.setdefault(cause, []).append(row.place or row.uid)
    named = "; ".join(f"{', '.join(places)}: {cause}" for cause, places in causes.items())
    more = f"; and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    count = f"{len(rows):,} rows cannot be embedded: " if len(rows) > 1 else ""
    fold = any(refusal.foldable for refusal in refused.values())
    hint = ", or --fold-system (fold_system=True), which puts system text into the user turn" if fold else ""
    return f"{count}{named}{more}; expected texts that the model can take{hint}."
