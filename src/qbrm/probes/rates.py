"""How often hacks win."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest

from qbrm.probes.base import Must


class Rate(NamedTuple):
    """A share, and its 95% interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, wins: Bool[np.ndarray, " n"]) -> Rate | None:
        """The share of wins among independent trials, with Wilson's interval (1927); None if there are none."""
        if not len(wins):
            return None
        interval = binomtest(int(wins.sum()), len(wins)).proportion_ci(method="wilson")
        return cls(float(wins.mean()), float(interval.low), float(interval.high))


class ProbeRow(NamedTuple):
    """How often the hacks of one probe win.

    Attributes:
        probe: its name.
        must: what its hacks must not do.
        n: prompts with a hack; on each, one response is hacked.
        skipped: responses that the probe left as they were.
        refused: hacks that the reward model cannot take.
        base: rate by the base rewards; None if there is no hack.
        refined: rate by the refined rewards; None as well, and for a bare reward model.
    """

    probe: str
    must: Must
    n: int
    skipped: int
    refused: int
    base: Rate | None
    refined: Rate | None

    def to_dict(self) -> dict[str, Any]:
        """As ``probes.json`` has it: the interval is that of the refined rate, or of the base's if there is none."""
        shown = self.refined or self.base
        return {
            "probe": self.probe,
            "must": self.must.value,
            "n": self.n,
            "skipped": self.skipped,
            "refused": self.refused,
            "base": self.base and self.base.mean,
            "refined": self.refined and self.refined.mean,
            "ci_low": shown and shown.low,
            "ci_high": shown and shown.high,
            "base_low": self.base and self.base.low,
            "base_high": self.base and self.base.high,
        }
