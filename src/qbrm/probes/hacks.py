"""Hacked responses as preferences: the original over the hack, with the probe as category."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from qbrm.preferences.base import Preference, PreferenceSet
from qbrm.probes.base import Probe

MOST_OTHERS = 8

Original = tuple[Preference, str]
"""A preference, for its prompt, and the response to it that is hacked."""


class Hacks(NamedTuple):
    """What probes made of responses.

    Attributes:
        preferences: a row for each hack: the original as chosen, the hack as rejected, the probe as category.
        skipped: how many responses each probe left as they were.
    """

    preferences: PreferenceSet
    skipped: Mapping[str, int]


def sample_originals(
    preferences: PreferenceSet, most: int, seed: int, pick: Callable[[Preference], str] = lambda row: row.chosen
) -> list[Original]:
    """One response to each of some prompts, which a hash of prompt and seed draws.

    Asking for more prompts keeps those already drawn.

    Args:
        preferences: where prompts and responses are from.
        most: how many prompts.
        seed: of the draw.
        pick: the response among those of a prompt's first row.
    """
    first = {row.prompt_id: row for row in reversed(preferences.preferences)}
    drawn = sorted(first, key=lambda prompt: hashlib.sha256(f"{seed} {prompt}".encode()).digest())[:most]
    return [(first[prompt], pick(first[prompt])) for prompt in drawn]


def hack_originals(name: str, originals: Sequence[Original], probes: Sequence[Probe]) -> Hacks:
    """Apply every probe to every response.

    Args:
        name: of the set that comes out.
        originals: responses, of one prompt each; those of other prompts serve probes that put one in another's place.
        probes: what to apply.
    """
    return hack_each(name, [(original, probes) for original in originals])


def hack_each(name: str, work: Sequence[tuple[Original, Sequence[Probe]]]) -> Hacks:
    """Apply to every response the probes that are given for it."""
    responses = [response for (_, response), _ in work]
    hacks, skipped = list[Preference](), Counter[str]()
    for place, ((row, response), probes) in enumerate(work):
        # The next ones are enough to draw from, and cost no more where there are many.
        others = [responses[(place + step) % len(responses)] for step in range(1, min(MOST_OTHERS + 1, len(responses)))]
        for probe in probes:
            hacked = probe.hacked(row.prompt, response, others)
            if hacked is None:
                skipped[probe.name] += 1
                continue
            uid = f"{row.uid}/{probe.name}"
            hacks.append(Preference(uid, row.prompt, response, (hacked,), probe.name, "pairwise", row.place))
    return Hacks(PreferenceSet(name, tuple(hacks)), skipped)


def any_response(row: Preference) -> str:
    """One of a preference's responses, which the prompt draws and the label does not."""
    return Random(f"original {row.prompt_id}").choice(sorted(set(row.responses)))
