"""Hold prompts out, and check that training and test share none."""

from __future__ import annotations

import hashlib
import math

from qbrm.errors import InputError
from qbrm.preferences.base import PreferenceSet
from qbrm.preferences.quoting import one_line, quote

A_FEW = 3  # prompts from which on a category is to be present on both sides


def split_by_prompt(preferences: PreferenceSet, fraction: float, seed: int) -> tuple[PreferenceSet, PreferenceSet]:
    """Hold out a share of the prompts, with all preferences on them.

    Which prompts are held out depends on their content, their categories and the seed, never on their order in the
    file. Categories are held out in proportion, and those of a few prompts or more are on both sides wherever the
    fraction leaves room for that. A prompt in several categories counts for the alphabetically first.

    Args:
        preferences: what to split.
        fraction: share of the prompts to hold out, between 0 and 1; at least one prompt stays on each side.
        seed: picks the prompts to hold out.

    Returns:
        What is kept and what is held out, both in file order.

    Raises:
        InputError: if the fraction is not between 0 and 1, or there are fewer than two prompts.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the fraction of prompts to hold out is {fraction}; expected a number between 0 and 1.")
    total = len(preferences.prompt_ids)
    if total < 2:
        raise InputError(
            f"{one_line(preferences.name)} has {total} prompt(s); expected two or more to split by prompt."
        )
    strata = _strata(preferences, seed)
    wanted = min(max(round(fraction * total), 1), total - 1)
    quotas = _quotas([len(stratum) for stratum in strata], fraction, wanted)
    held = {prompt_id for stratum, quota in zip(strata, quotas, strict=True) for prompt_id in stratum[:quota]}
    return preferences.of_prompts(set(preferences.prompt_ids) - held), preferences.of_prompts(held)


def check_disjoint(train: PreferenceSet, test: PreferenceSet) -> None:
    """Refuse to test on prompts that were trained on.

    Raises:
        InputError: if both hold a prompt; says how many they share and quotes the first.
    """
    trained_on = set(train.prompt_ids)
    shared = [preference for preference in test if preference.prompt_id in trained_on]
    if shared:
        count = len({preference.prompt_id for preference in shared})
        first = quote(" ".join(message.content for message in shared[0].prompt))
        names = f"{one_line(train.name)} (train) and {one_line(test.name)} (test)"
        prompts = f"the prompt {first}" if count == 1 else f"{count} prompts, the first of them {first}"
        raise InputError(f"{names} share {prompts}; expected no prompt in both.")


def _strata(preferences: PreferenceSet, seed: int) -> list[list[str]]:
    """Prompt ids by category, both in an order that depends on the seed alone."""
    category_of: dict[str, str] = {}
    for preference in preferences:
        known = category_of.get(preference.prompt_id, preference.category)
        category_of[preference.prompt_id] = min(known, preference.category)
    strata: dict[str, list[str]] = {}
    for prompt_id in sorted(category_of, key=lambda prompt_id: _rank(seed, prompt_id)):
        strata.setdefault(category_of[prompt_id], []).append(prompt_id)
    return [strata[category] for category in sorted(strata, key=lambda category: _rank(seed, category))]


def _rank(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode()).digest()


def _quotas(sizes: list[int], fraction: float, wanted: int) -> list[int]:
    """How many prompts of each category to hold out: nearly proportional, `wanted` in all."""
    lowest = [1 if size >= A_FEW else 0 for size in sizes]
    highest = [size - 1 if size >= A_FEW else size for size in sizes]
    ideal = [fraction * size for size in sizes]
    quotas = [min(max(math.floor(share), low), high) for share, low, high in zip(ideal, lowest, highest, strict=True)]
    _move(quotas, ideal, highest, wanted, step=1)
    _move(quotas, ideal, lowest, wanted, step=-1)
    # A total that cannot be met with those categories on both sides is met without.
    _move(quotas, ideal, sizes, wanted, step=1)
    _move(quotas, ideal, [0] * len(sizes), wanted, step=-1)
    return quotas


def _move(quotas: list[int], ideal: list[float], limits: list[int], wanted: int, step: int) -> None:
    """Step the quotas towards their total, those furthest from their ideal first, until it or all limits are met."""
    while (missing := (wanted - sum(quotas)) * step) > 0:
        movable = [index for index, quota in enumerate(quotas) if (limits[index] - quota) * step > 0]
        if not movable:
            return
        movable.sort(key=lambda index: (quotas[index] - ideal[index]) * step)
        for index in movable[:missing]:
            quotas[index] += step
