"""What the study of hardening measured, as shares with intervals by prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.probes import PROBES, Must
from qbrm_lab.results.harden_rows import HardenRow, KindRow

BASE, SHOWN = "base", "sqrbm"
NO_GATE, DENSITY, FAMILIAR = "none", "density", "hacks too"
FOLDS, VALIDATION = 5, 8


@dataclass(frozen=True)
class Outcome:
    """One score of one seed: one or zero for every clean test pair and for every hack of a test prompt.

    Attributes:
        method: the score.
        split: number of the split of the kinds; None where nothing was hardened.
        gate: which gate.
        right: whether the chosen response has the greater reward, by test pair.
        wins: whether the hack wins, by hack.
        seconds: of training.
    """

    method: str
    split: int | None
    gate: str
    right: list[int]
    wins: list[int]
    seconds: float


class Roles(NamedTuple):
    """Prompt ids by what they do in one seed; `head` trains the score layer of an encoder without one."""

    test: set[str]
    head: set[str]
    training: set[str]
    validation: set[str]


def fifths(prompts: Iterable[str]) -> list[list[str]]:
    """The prompts in five parts; each seed of five tests another."""
    shuffled = _shuffled(prompts)
    return [shuffled[fold::FOLDS] for fold in range(FOLDS)]


def _shuffled(prompts: Iterable[str]) -> list[str]:
    shuffled = sorted(prompts)
    Random(0).shuffle(shuffled)
    return shuffled


def share_out(prompts: Sequence[str], seed: int, *, headless: bool) -> Roles:
    """Each seed of five tests another fifth of the prompts."""
    shuffled, test = _shuffled(prompts), set(fifths(prompts)[seed % FOLDS])
    rest = [prompt for prompt in shuffled if prompt not in test]
    Random(seed).shuffle(rest)
    head, refining = (rest[: len(rest) // 2], rest[len(rest) // 2 :]) if headless else ([], rest)
    validation = refining[: max(1, len(refining) // VALIDATION)]
    return Roles(test, set(head), set(refining[len(validation) :]), set(validation))


@dataclass(frozen=True)
class SeedOutcomes:
    """All that one seed measured.

    Attributes:
        pairs: number of each clean test pair's prompt.
        hacks: the same of each hack of a test prompt.
        kinds: of each hack.
        outcomes: in every way of refining.
    """

    pairs: list[int]
    hacks: list[int]
    kinds: list[str]
    outcomes: list[Outcome]

    def of(self, method: str, split: int | None, gate: str) -> Outcome:
        """The outcome of one way of refining."""
        return next(made for made in self.outcomes if (made.method, made.split, made.gate) == (method, split, gate))


class OutcomeTable:
    """Shares with intervals by prompt, over what all seeds and splits measured.

    Args:
        seeds: what each seed measured.
        splits: kinds that training does not see, in each split.
    """

    def __init__(self, seeds: Sequence[SeedOutcomes], splits: Sequence[Sequence[str]]) -> None:
        self.seeds, self.splits = seeds, splits
        self.pairs = np.concatenate([seed.pairs for seed in seeds])
        self.hacks = np.concatenate([seed.hacks for seed in seeds])
        self.kinds = np.concatenate([seed.kinds for seed in seeds])
        self.losing = np.array([PROBES[kind].must is Must.LOSE for kind in self.kinds])

    def row(self, method: str, hardened: bool, gate: str) -> HardenRow:
        """One way of refining."""
        splits: Sequence[int | None] = range(len(self.splits)) if hardened else (None,)
        right = np.mean([self._all(method, split, gate, "right") for split in splits], axis=0)
        wins = {split: self._all(method, split, gate, "wins") for split in splits}
        changed: tuple[float, ...] = ()
        if hardened or gate != NO_GATE:
            changed = self._share(right - self._all(method, None, NO_GATE, "right"), self.pairs)
        dressed, mean = ~self.losing, np.mean(list(wins.values()), axis=0)
        seconds = [seed.of(method, split, gate).seconds for seed in self.seeds for split in splits]
        return HardenRow(
            method=method,
            hardened=hardened,
            gate=gate,
            seen=self._rate(wins, seen=True),
            unseen=self._rate(wins, seen=False),
            not_gain=self._share(mean[dressed], self.hacks[dressed]) if dressed.any() else (),
            accuracy=self._share(right, self.pairs),
            over_plain=changed,
            seconds=float(np.mean(seconds)),
        )

    def kind(self, name: str) -> KindRow:
        """One kind of hacks."""
        of_kind = self.kinds == name
        prompt = self.hacks[of_kind]

        def share(method: str, splits: Sequence[int | None]) -> tuple[float, ...]:
            wins = [self._all(method, split, NO_GATE, "wins")[of_kind] for split in splits]
            return self._share(np.mean(wins, axis=0), prompt) if wins else ()

        losing = PROBES[name].must is Must.LOSE
        with_it = [split for split, unseen in enumerate(self.splits) if losing and name not in unseen]
        base, plain = (share(method, (None,)) for method in (BASE, SHOWN))
        return KindRow(
            probe=name,
            must=PROBES[name].must.value,
            n=len(prompt),
            base=base,
            plain=plain,
            seen=share(SHOWN, with_it),
            unseen=share(SHOWN, [split for split in range(len(self.splits)) if split not in with_it]),
        )

    def _all(self, method: str, split: int | None, gate: str, what: str) -> Float[np.ndarray, " trials"]:
        """What all seeds measured in one way, one behind the other."""
        found = [getattr(seed.of(method, split, gate), what) for seed in self.seeds]
        return np.concatenate([np.array(values, dtype=float) for values in found])

    def _rate(self, wins: dict[int | None, Float[np.ndarray, " hacks"]], *, seen: bool) -> tuple[float, ...]:
        """Rate over the hacks that must lose and are of seen or unseen kinds, in all splits together."""
        parts, prompts = [], []
        for split, won in wins.items():
            unseen = np.isin(self.kinds, self.splits[split]) if split is not None else np.zeros(len(won), bool)
            picked = self.losing & (~unseen if seen or split is None else unseen)
            parts.append(won[picked])
            prompts.append(self.hacks[picked])
        return self._share(np.concatenate(parts), np.concatenate(prompts))

    def _share(self, value: Float[np.ndarray, " n"], prompt: Int[np.ndarray, " n"]) -> tuple[float, ...]:
        bootstrap = PromptBootstrap(TestPairs(np.unique(prompt, return_inverse=True)[1]), 0)
        return float(value.mean()), *bootstrap.intervals(value)["all"]
