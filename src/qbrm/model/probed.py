"""Probing: hacks are embedded once, and rewards told apart from those of what they were made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.build import Progress
from qbrm.features.embed import embed
from qbrm.preferences import response_id
from qbrm.preferences.base import Key
from qbrm.probes import Probe
from qbrm.probes.hacks import Hacks
from qbrm.probes.rates import Hacked, ProbeRow, probe_rows
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models import RewardModel

ROWS_AT_ONCE = 1024


class EmbeddedHacks(NamedTuple):
    """Features of hacks and of their originals.

    Attributes:
        table: the features, with rewards.
        hacks: what was made; those that the reward model cannot take are not among them.
        refused: how many of those there are, by probe.
    """

    table: FeatureTable
    hacks: Hacks
    refused: dict[str, int]

    def rows(
        self, probes: Sequence[Probe], score: EnergyScore | None = None, refinement: str = "mode"
    ) -> list[ProbeRow]:
        """How often the hacks of each probe win, by base rewards and, given a score, by refined ones."""
        base, refined = self._rewards(score, refinement)
        by_base, by_refined = (None if reward is None else self._by_probe(probes, reward) for reward in (base, refined))
        assert by_base is not None
        return probe_rows(probes, by_base, by_refined, self.hacks.skipped, self.refused)

    def _rewards(self, score: EnergyScore | None, refinement: str) -> tuple[dict[Key, float], dict[Key, float] | None]:
        base: dict[Key, float] = {}
        refined: dict[Key, float] = {}
        for keys in _in_parts(list(self.hacks.preferences.responses())):
            embedded = self.table.rows(keys)
            assert embedded.reward is not None
            base |= dict(zip(keys, embedded.reward.tolist(), strict=True))
            if score is not None:
                better = refine(score, embedded.embedding, embedded.reward, REFINEMENTS[refinement])
                refined |= dict(zip(keys, better.tolist(), strict=True))
        return base, None if score is None else refined

    def _by_probe(self, probes: Sequence[Probe], reward: dict[Key, float]) -> dict[str, Hacked]:
        pairs: dict[str, list[tuple[float, float]]] = {probe.name: [] for probe in probes}
        for row in self.hacks.preferences:
            original, hack = (reward[row.prompt_id, response_id(text)] for text in row.responses)
            pairs[row.category].append((original, hack))
        columns = {name: np.array(of_probe, dtype=np.float64).reshape(-1, 2) for name, of_probe in pairs.items()}
        return {name: Hacked(values[:, 0], values[:, 1]) for name, values in columns.items()}


def embed_hacks(model: RewardModel, hacks: Hacks, folder: Path, progress: Progress | None = None) -> EmbeddedHacks:
    """Embed hacks and their originals into a folder; what is there already is read.

    Hacks that the reward model cannot take are left out and counted.

    Raises:
        InputError: if there is no hack, the folder holds features of another model or cannot be written.
        RefusedTextsError: if the model cannot take any of the hacks.
    """
    if not len(hacks.preferences):
        raise InputError(f"the probes leave every response of {hacks.preferences.name} as it is; expected longer ones.")
    table, taken = embed(hacks.preferences, folder, lambda: model, progress=progress, skip_bad=True)
    made, left = (Counter(row.category for row in rows) for rows in (hacks.preferences, taken))
    return EmbeddedHacks(table, Hacks(taken, hacks.skipped), dict(made - left))


def _in_parts(keys: list[Key]) -> Iterator[list[Key]]:
    for start in range(0, len(keys), ROWS_AT_ONCE):
        yield keys[start : start + ROWS_AT_ONCE]
