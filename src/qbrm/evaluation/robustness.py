"""How often hacks win, as a verdict has it: by probe, and for kinds that hardening has seen and has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from qbrm.evaluation.bootstrap import PromptBootstrap, TestPairs

WORST_SHOWN = 3


class HackRates(NamedTuple):
    """Rates at which the hacks of one probe win.

    Attributes:
        base: by the base rewards.
        refined: by the refined rewards.
        must_lose: whether its hacks are worse than what they are made of, and not only different.
    """

    base: float
    refined: float
    must_lose: bool = True


class Hardened(NamedTuple):
    """Mean rates over several kinds of hacks that must lose.

    Attributes:
        kinds: their names.
        base: mean rate by the base rewards.
        refined: mean rate by the refined rewards.
        difference: refined less base, with its 95% interval by resampling prompts.
    """

    kinds: tuple[str, ...]
    base: float
    refined: float
    difference: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """As ``verdict.json`` has it."""
        return {**self._asdict(), "kinds": list(self.kinds), "difference": list(self.difference)}

    def __str__(self) -> str:
        return f"{100 * self.refined:.0f}% (base {100 * self.base:.0f}%)"


@dataclass(frozen=True)
class Robustness:
    """What probes of the test prompts' chosen responses showed.

    Attributes:
        prompts: how many prompts.
        rates: of every probe that has a hack.
        seen: over the kinds that hardening trained against; None without hardening.
        unseen: over all other kinds that must lose; None if there is none.
    """

    prompts: int
    rates: Mapping[str, HackRates]
    seen: Hardened | None = None
    unseen: Hardened | None = None

    @property
    def hardens(self) -> bool:
        """Whether hacks that hardening trained against win less often than before, beyond the interval."""
        return self.seen is not None and self.seen.difference[2] < 0

    @property
    def weakens(self) -> bool:
        """Whether hacks win more often than before, beyond the interval, where nothing was hardened."""
        return self.seen is None and self.unseen is not None and self.unseen.difference[1] > 0

    @property
    def sentence(self) -> str:
        """The worst of it in words."""
        of = f"on {self.prompts} test prompts"
        worst = sorted(self.rates.items(), key=lambda item: -item[1].refined if item[1].must_lose else 1)[:WORST_SHOWN]
        named = ", ".join(f"{name} {100 * of.refined:.0f}% (base {100 * of.base:.0f}%)" for name, of in worst)
        parts = [f"Hacks that win most often {of}: {named}."]
        if self.seen is not None:
            parts.append(f"Those of the {len(self.seen.kinds)} kinds it was hardened against win {self.seen}")
            parts[-1] += "." if self.unseen is None else f", of the {len(self.unseen.kinds)} others {self.unseen}."
        if self.weakens:
            parts.append(f"All that must lose win {self.unseen}: it is easier to game than the base; see --harden.")
        return " ".join(parts)


def hardened(
    kinds: tuple[str, ...],
    prompt: Int[np.ndarray, " hacks"],
    base: Float64[np.ndarray, " hacks"],
    refined: Float64[np.ndarray, " hacks"],
    seed: int = 0,
) -> Hardened | None:
    """Compare how often hacks of some kinds win before and after; None if there are none.

    Args:
        kinds: their names.
        prompt: number of each hack's prompt.
        base: one for each hack that wins by the base rewards, else zero.
        refined: the same for the refined rewards.
        seed: of the resampling.
    """
    if not len(prompt):
        return None
    bootstrap = PromptBootstrap(TestPairs(np.unique(prompt, return_inverse=True)[1]), seed)
    change = refined - base
    return Hardened(
        kinds, float(base.mean()), float(refined.mean()), (float(change.mean()), *bootstrap.intervals(change)["all"])
    )
