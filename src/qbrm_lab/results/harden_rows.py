"""The rows of the study of hardening."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HardenRow:
    """How often hacks win, and what that costs, in one way of refining; means over seeds and splits of the kinds.

    Attributes:
        method: the score; ``base`` for the rewards as they are.
        hardened: whether it was trained against hacks.
        gate: ``none``, ``density``, or ``hacks too`` for a density gate to which hacks are familiar.
        seen: rate of the kinds that training has seen, with its 95% interval by prompt; of all kinds where nothing was
            hardened.
        unseen: rate of the others that must lose, likewise.
        not_gain: rate of those that must not gain, likewise; empty if there are none.
        accuracy: on clean test pairs, likewise.
        over_plain: accuracy less that of the same score without hardening and gate, paired; empty for that itself.
        seconds: of training, a mean.
    """

    method: str
    hardened: bool
    gate: str
    seen: tuple[float, ...]
    unseen: tuple[float, ...]
    not_gain: tuple[float, ...]
    accuracy: tuple[float, ...]
    over_plain: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """How often the hacks of one kind win: by the base, and refined by one score.

    Attributes:
        probe: its name.
        must: what its hacks must not do.
        n: hacks on different prompts.
        base: rate by the base rewards, with its 95% interval by prompt.
        plain: rate by the refined rewards, without hardening.
        seen: rate where hardening has seen the kind; empty for a kind that no hardening sees.
        unseen: rate where it has not; empty for a kind that every hardening sees.
    """

    probe: str
    must: str
    n: int
    base: tuple[float, ...]
    plain: tuple[float, ...]
    seen: tuple[float, ...]
    unseen: tuple[float, ...]


@dataclass(frozen=True)
class HardenResults:
    """Content of harden.json; `kinds` are of the method `method`."""

    command: str
    reward_model: str
    prompts: int
    pairs: int
    seeds: int
    splits: list[list[str]]
    rows: list[HardenRow]
    method: str
    kinds: list[KindRow]
