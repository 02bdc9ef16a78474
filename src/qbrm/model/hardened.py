"""Hardening: hacks of the user's own responses, made without their labels, that a score learns to put below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from qbrm.errors import InputError
from qbrm.features.stream import Share, Source, StreamedPairs, open_sources
from qbrm.fitting.hardening import DEFAULT_WEIGHT, Harden
from qbrm.model.division import MEMORY_BYTES
from qbrm.model.probed import EmbeddedHacks
from qbrm.preferences import PreferenceSet
from qbrm.probes import PROBES, Must, named_probes
from qbrm.probes.hacks import Hacks, any_response, hack_each, sample_originals

FOLDER = "harden"
MOST_PROMPTS, MOST_HACKS = 2000, 8000
# One kind in so many trains nothing, and tells whether hardening goes beyond the kinds that it was shown.
HELD_OUT = 4


@dataclass(frozen=True)
class HardeningHacks:
    """Features of hacks to train against, and of the responses that they were made of.

    Attributes:
        source: features and pairs on disk.
        kinds: names of the probes.
        weight: of their loss.
    """

    source: Source
    kinds: tuple[str, ...]
    weight: float = DEFAULT_WEIGHT

    def __repr__(self) -> str:
        # The table keeps hacks of other kinds from earlier calls: only the pairs say which of them take part.
        pairs = StreamedPairs((self.source,), Share(0.0, 1.0, 0)).digest()
        return f"HardeningHacks({self.kinds!r}, {pairs!r}, {self.weight!r})"

    def harden(self, share: Share, validation: Share) -> Harden:
        """The pairs on some prompts, in memory, those on a part of these held out; fewer where that is too much."""
        table = self.source.table
        part = min(1.0, MEMORY_BYTES / (len(table) * table.dim * 4))
        kept = share._replace(high=share.low + part * (share.high - share.low))
        data, prompt = StreamedPairs((self.source,), kept).load_with_prompts()
        of_pair = prompt[data.chosen]
        held = torch.from_numpy(validation.holds(of_pair.numpy().view(np.uint64)))
        return Harden(data, of_pair, self.weight, held)


def seen_kinds(seed: int) -> tuple[str, ...]:
    """The kinds of hacks to train against: of those that must lose, all but a quarter that the seed draws."""
    losing = [name for name, probe in PROBES.items() if probe.must is Must.LOSE]
    held_out = Random(seed).sample(losing, len(losing) // HELD_OUT)
    return tuple(name for name in losing if name not in held_out)


def named_kinds(harden: bool | Sequence[str], seed: int) -> tuple[str, ...]:
    """The kinds to train against: none, those that :func:`seen_kinds` gives, or those that are named.

    Raises:
        InputError: if a name is unknown, or of a probe whose hacks only look different.
    """
    if isinstance(harden, bool):
        return seen_kinds(seed) if harden else ()
    probes = named_probes((harden,) if isinstance(harden, str) else tuple(harden))
    for probe in probes:
        if probe.must is not Must.LOSE:
            raise InputError(f"harden names {probe.name}, which makes nothing worse; expected probes that must lose.")
    return tuple(probe.name for probe in probes)


def hacks_to_train(preferences: PreferenceSet, kinds: Sequence[str], seed: int) -> Hacks:
    """As many kinds of hacks of one response to each prompt as are embedded at all, drawn without regard to labels."""
    originals = sample_originals(preferences, MOST_PROMPTS, seed, any_response)
    each = min(MOST_HACKS // max(len(originals), 1), len(kinds))
    drawn = [Random(f"kinds {row.prompt_id}").sample(list(kinds), each) for row, _ in originals]
    work = [(original, [PROBES[name] for name in names]) for original, names in zip(originals, drawn, strict=True)]
    return hack_each(preferences.name, work)


def hardening_of(embedded: EmbeddedHacks, kinds: Sequence[str]) -> HardeningHacks:
    """What :func:`qbrm.model.probed.embed_hacks` left on disk, to train against."""
    (source,) = open_sources([embedded.table.folder])
    return HardeningHacks(source, tuple(kinds))
