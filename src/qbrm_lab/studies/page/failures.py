"""What did not work: missed targets, trainings that led nowhere, over-optimisation, calls that were cut short."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm_lab.results import Fact
from qbrm_lab.results.facts import BaseKept, BoundChosen, UntrainedKept
from qbrm_lab.studies.journal import Call
from qbrm_lab.studies.over_optimisation.measure import OverOptimisation
from qbrm_lab.studies.robustness import Target


def missed(targets: Sequence[Target]) -> list[Target]:
    """The targets that were not reached."""
    return [target for target in targets if target.met is False]


def fruitless(facts: Sequence[Fact]) -> dict[str, str]:
    """Where a method was left as it started: seeds, by scenario if it is known, by method and words."""
    kept: dict[str, dict[str, dict[str, None]]] = {}
    for fact in facts:
        if isinstance(fact, BaseKept | UntrainedKept):
            of_method = kept.setdefault(f"`{fact.method}`, {fact.words}", {})
            of_method.setdefault(f"{fact.scenario}, " if fact.scenario else "", {})[str(fact.seed)] = None
    return {
        name: "; ".join(f"{scenario}seed {', '.join(seeds)}" for scenario, seeds in places.items())
        for name, places in kept.items()
    }


def bounds(facts: Sequence[Fact]) -> dict[str, str]:
    """The z that validation chose for every lower confidence bound, with its seed; 0 is the mean itself."""
    chosen: dict[str, list[str]] = {}
    for fact in facts:
        if isinstance(fact, BoundChosen):
            tried = ", ".join(f"{z:g}" for z in fact.tried)
            of_method = chosen.setdefault(f"`{fact.method}`, validation chose z of {tried}", [])
            of_method.append(f"{fact.z:g} (seed {fact.seed})")
    return {name: ", ".join(values) for name, values in chosen.items()}


def over_optimised(study: OverOptimisation) -> str:
    """The methods that lose gold beyond the interval from their peak to the largest n, and how much."""
    lost = [
        f"`{row.method}` {row.loss:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}] since n = {row.peak_n:,}"
        for row in study.peaks
        if row.peaks
    ]
    return "; ".join(lost) or "none that can be told from chance"


def cut_short(calls: Sequence[Call]) -> str:
    """How many calls did not finish, and in which part."""
    cut = [call.part for call in calls if not call.finished]
    return f"{len(cut)} ({', '.join(dict.fromkeys(cut))})" if cut else "none"
