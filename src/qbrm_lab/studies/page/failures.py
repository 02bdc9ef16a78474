"""What did not work: missed targets, trainings that led nowhere, over-optimisation, calls that were cut short."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qbrm_lab.studies.journal import Call
from qbrm_lab.studies.over_optimisation.measure import OverOptimisation
from qbrm_lab.studies.robustness import Target

NOTE = re.compile(r"(?:(?P<scenario>[^,]+), )?(?P<method>[^,:]+), seed (?P<seed>\d+): (?P<said>no epoch beat .*)")
BOUND = re.compile(r"(?P<method>[^,:]+), seed (?P<seed>\d+): validation chose z = (?P<z>\S+) of (?P<tried>.*)")


def missed(found: Sequence[Target]) -> list[Target]:
    """The targets that were not reached."""
    return [each for each in found if each.met is False]


def fruitless(notes: Sequence[str]) -> dict[str, str]:
    """Where a method gave way to what it started from: seeds, by scenario if named, by method and words."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for note in notes:
        match = NOTE.fullmatch(note)
        if match:
            of_method = found.setdefault(f"`{match['method']}`, {match['said']}", {})
            of_method.setdefault(match["scenario"] or "", {})[match["seed"]] = None
    return {
        name: "; ".join(f"{scenario}, seed {', '.join(seeds)}".removeprefix(", ") for scenario, seeds in places.items())
        for name, places in found.items()
    }


def bounds(notes: Sequence[str]) -> dict[str, str]:
    """How far below its mean validation set each lower confidence bound: z with its seed; 0 is the mean itself."""
    found: dict[str, list[str]] = {}
    for note in notes:
        match = BOUND.fullmatch(note)
        if match:
            of_method = found.setdefault(f"`{match['method']}`, validation chose z of {match['tried']}", [])
            of_method.append(f"{match['z']} (seed {match['seed']})")
    return {name: ", ".join(chosen) for name, chosen in found.items()}


def over_optimised(found: OverOptimisation) -> str:
    """The methods that lose gold beyond the interval from their peak to the largest n, and how much."""
    lost = [
        f"`{row['method']}` {row['loss']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}] since n = {row['peak_n']:,}"
        for row in found["peaks"]
        if row["peaks"]
    ]
    return "; ".join(lost) or "none that can be told from chance"


def cut_short(calls: Sequence[Call]) -> str:
    """How many calls did not finish, and in which part."""
    cut = [call["part"] for call in calls if not call["finished"]]
    return f"{len(cut)} ({', '.join(dict.fromkeys(cut))})" if cut else "none"
