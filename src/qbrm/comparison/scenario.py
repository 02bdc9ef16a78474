"""Which preferences train the reward model, and which the score that refines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qbrm.preferences import PreferenceSet, split_by_prompt

VALIDATION_SHARE = 0.125


class Roles(NamedTuple):
    """Training preferences by what they are for; no prompt is both trained on and validated with.

    Attributes:
        reward_model: trains the embedded reward model (one that is already trained ignores it).
        refinement: trains the scores.
        validation: chooses epochs and calibrates.
    """

    reward_model: PreferenceSet
    refinement: PreferenceSet
    validation: PreferenceSet


def same(train: PreferenceSet, seed: int) -> Roles:
    """The paper's protocol: reward model and score see the same preferences."""
    kept, validation = split_by_prompt(train, VALIDATION_SHARE, seed)
    return Roles(kept, kept, validation)


def fresh(train: PreferenceSet, seed: int) -> Roles:
    """The score sees preferences from the same domain that the reward model has not seen: half of the prompts each."""
    kept, validation = split_by_prompt(train, VALIDATION_SHARE, seed)
    reward_model, refinement = split_by_prompt(kept, 0.5, seed)
    return Roles(reward_model, refinement, validation)


SCENARIOS: dict[str, Callable[[PreferenceSet, int], Roles]] = {"same": same, "fresh": fresh}
