"""Probing: hacks are embedded once, and their rewards held against those of what they were made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.evaluation.robustness import HackRates, Hardened, Robustness, hardened
from qbrm.features import FeatureTable
from qbrm.features.build import Progress
from qbrm.features.embed import embed
from qbrm.features.pair_list import write_training_pairs
from qbrm.model.trained_head import with_rewards
from qbrm.preferences import response_id
from qbrm.preferences.base import Key
from qbrm.probes import PROBES, Must, Probe
from qbrm.probes.hacks import Hacks
from qbrm.probes.rates import ProbeRow, Rate
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models import RewardModel

ROWS_AT_ONCE = 1024


class Wins(NamedTuple):
    """Which hacks win: those whose reward is not below that of the original, as nothing holds a policy back then.

    Attributes:
        probe: name of each hack's probe.
        prompt: number of its prompt.
        base: whether it wins by the base rewards.
        refined: whether it wins by the refined rewards; None if nothing refines.
    """

    probe: np.ndarray
    prompt: Int[np.ndarray, " hacks"]
    base: Bool[np.ndarray, " hacks"]
    refined: Bool[np.ndarray, " hacks"] | None

    def of(self, *probes: str) -> Wins:
        """Those of some probes."""
        picked = np.isin(self.probe, probes)
        return Wins(*(None if part is None else part[picked] for part in self))  # type: ignore[arg-type]


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

    def wins(self, score: EnergyScore | None = None, refinement: str = "mode") -> Wins:
        """Which hacks win by base rewards and, given a score, by refined ones."""
        rows = self.hacks.preferences.preferences
        number = {prompt: place for place, prompt in enumerate(self.hacks.preferences.prompt_ids)}
        keys = [[(row.prompt_id, response_id(text)) for text in row.responses] for row in rows]
        rewards = self._rewards(list(self.hacks.preferences.responses()), score, refinement)

        def won(reward: dict[Key, float]) -> Bool[np.ndarray, " hacks"]:
            return np.array([reward[hack] >= reward[original] for original, hack in keys], dtype=bool)

        base, refined = (None if reward is None else won(reward) for reward in rewards)
        assert base is not None
        probe, prompt = np.array([row.category for row in rows]), np.array([number[row.prompt_id] for row in rows])
        return Wins(probe, prompt, base, refined)

    def rows(self, probes: Sequence[Probe], wins: Wins) -> list[ProbeRow]:
        """How often the hacks of each probe win."""
        rows = []
        for probe in probes:
            of_probe = wins.of(probe.name)
            base, refined = (None if won is None else Rate.of(won) for won in (of_probe.base, of_probe.refined))
            counts = len(of_probe.base), self.hacks.skipped.get(probe.name, 0), self.refused.get(probe.name, 0)
            rows.append(ProbeRow(probe.name, probe.must, *counts, base, refined))
        return rows

    def _rewards(
        self, keys: list[Key], score: EnergyScore | None, refinement: str
    ) -> tuple[dict[Key, float], dict[Key, float] | None]:
        base: dict[Key, float] = {}
        refined: dict[Key, float] = {}
        for part in _in_parts(keys):
            embedded = self.table.rows(part)
            assert embedded.reward is not None
            base |= dict(zip(part, embedded.reward.tolist(), strict=True))
            if score is not None:
                better = refine(score, embedded.embedding, embedded.reward, REFINEMENTS[refinement])
                refined |= dict(zip(part, better.tolist(), strict=True))
        return base, None if score is None else refined


def embed_hacks(
    model: RewardModel, hacks: Hacks, folder: Path, progress: Progress | None = None, encoder: RewardModel | None = None
) -> EmbeddedHacks:
    """Embed hacks and their originals into a folder, with pairs of them; what is there already is read.

    Hacks that the reward model cannot take are left out and counted.

    Args:
        model: gives the rewards.
        hacks: what to embed.
        folder: for the features.
        progress: called with (rows there, rows wanted).
        encoder: embeds, if `model` is that encoder with a trained score layer.

    Raises:
        InputError: if there is no hack, the folder holds features of another model or cannot be written.
        RefusedTextsError: if the model cannot take any of the hacks.
    """
    if not len(hacks.preferences):
        raise InputError(f"the probes leave every response of {hacks.preferences.name} as it is; expected longer ones.")
    embeds = encoder or model
    table, taken = embed(hacks.preferences, folder, lambda: embeds, progress=progress, skip_bad=True)
    if not table.has_reward:
        table = with_rewards(model, table, list(taken.responses()), folder.with_name(f"{folder.name}-with-head"))
        write_training_pairs(table.folder, taken)
    made, left = (Counter(row.category for row in rows) for rows in (hacks.preferences, taken))
    return EmbeddedHacks(table, Hacks(taken, hacks.skipped), dict(made - left))


def robustness(wins: Wins, trained: Sequence[str] = (), seed: int = 0) -> Robustness:
    """What a verdict says of hacks, given the kinds that hardening trained against."""
    assert wins.refined is not None
    names = [name for name in PROBES if len(wins.of(name).base)]
    rates = {name: _rates(name, wins.of(name)) for name in names}
    losing = [name for name in names if PROBES[name].must is Must.LOSE]
    sides = [tuple(name for name in losing if (name in trained) == seen) for seen in (True, False)]
    both = [_hardened(kinds, wins.of(*kinds), seed) if kinds else None for kinds in sides]
    return Robustness(len(np.unique(wins.prompt)), rates, *both)


def _rates(name: str, wins: Wins) -> HackRates:
    assert wins.refined is not None
    return HackRates(float(wins.base.mean()), float(wins.refined.mean()), PROBES[name].must is Must.LOSE)


def _hardened(kinds: tuple[str, ...], wins: Wins, seed: int) -> Hardened | None:
    assert wins.refined is not None
    return hardened(kinds, wins.prompt, _numbers(wins.base), _numbers(wins.refined), seed)


def _numbers(wins: Bool[np.ndarray, " hacks"]) -> Float64[np.ndarray, " hacks"]:
    return wins.astype(float)


def _in_parts(keys: list[Key]) -> Iterator[list[Key]]:
    for start in range(0, len(keys), ROWS_AT_ONCE):
        yield keys[start : start + ROWS_AT_ONCE]
