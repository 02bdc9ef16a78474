"""Prompts that a reward model cannot take, named before any text is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.features.engine import Engine
from qbrm.preferences.base import Preference, PreferenceSet
from qbrm.reward_models.base import Refusal

MOST_NAMED = 20


class RefusedPrompts(InputError):
    """A reward model cannot take some of the prompts.

    Attributes:
        prompt_ids: those prompts; what is left of a set without them can be embedded.
    """

    def __init__(self, message: str, prompt_ids: frozenset[str]) -> None:
        super().__init__(message)
        self.prompt_ids = prompt_ids


class Refused(NamedTuple):
    """A preference whose prompt a reward model cannot take, and why."""

    preference: Preference
    refusal: Refusal


def refused_by(engine: Engine, preferences: PreferenceSet) -> list[Refused]:
    """The preferences whose prompts a reward model cannot take, in file order; nothing is embedded."""
    prompts = {preference.prompt_id: preference.prompt for preference in preferences}
    names = list(prompts)
    why = {names[refusal.index]: refusal for refusal in engine.refusals(list(prompts.values()))}
    return [Refused(preference, why[preference.prompt_id]) for preference in preferences if preference.prompt_id in why]


def require_all_taken(engine: Engine, preferences: PreferenceSet) -> None:
    """Check that a reward model can take all prompts.

    Raises:
        RefusedPrompts: naming the rows of those that it cannot: at most twenty, then a count.
    """
    refused = refused_by(engine, preferences)
    if refused:
        name, ids = engine.described.identity.name, frozenset(row.preference.prompt_id for row in refused)
        raise RefusedPrompts(_sentence(name, refused), ids)


def _sentence(model: str, refused: Sequence[Refused]) -> str:
    causes: dict[str, list[str]] = {}
    for row in refused[:MOST_NAMED]:
        cause = f"{', '.join(row.refusal.roles)} ({row.refusal.reason})"
        causes.setdefault(cause, []).append(row.preference.place or row.preference.uid)
    more = f" and {len(refused) - MOST_NAMED:,} more" if len(refused) > MOST_NAMED else ""
    fold = any(row.refusal.foldable for row in refused)
    hint = ", or --fold-system, which puts system text into the user turn" if fold else ""
    expected = f"expected a conversation that it knows how to write{hint}."
    if len(refused) == 1:
        ((cause, (place,)),) = causes.items()
        return f"{place}: the chat template of {model} refuses a prompt of the roles {cause}; {expected}"
    rows = "; ".join(f"{', '.join(places)}: roles {cause}" for cause, places in causes.items())
    return f"the chat template of {model} refuses the prompts of {len(refused):,} rows: {rows}{more}; {expected}"
