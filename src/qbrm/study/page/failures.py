"""What did not work: missed targets, methods that do harm, trainings that led nowhere, calls that were cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qbrm.report import Results
from qbrm.report.numbers import ABSENT
from qbrm.study.journal import Call
from qbrm.study.page.files import StudyFiles
from qbrm.study.page.tables import below_base_table
from qbrm.study.page.times import time_target
from qbrm.study.robustness import targets

NOTE = re.compile(r"(?P<scenario>[^,]+), (?P<method>[^,:]+), seed (?P<seed>\d+): (?P<said>no epoch beat .*)")


def failures(files: StudyFiles) -> str:
    """All that did not work, and nothing else."""
    lines = ["## What did not work", ""]
    for words, results in (("", files.robustness), (" with the fine-tuned base", files.fine_tuned)):
        if results is not None:
            lines += _of_results(results, words)
    lines += [f"- {each.text}: {each.found}" for each in time_target(files) if each.met is False]
    for found in files.over_optimisation["studies"] if files.over_optimisation is not None else ():
        lost = [row for row in found["peaks"] if row["peaks"]]
        said = ", ".join(
            f"`{row['method']}` {row['loss']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" for row in lost
        )
        lines += [f"Over-optimised beyond the interval, gold from {found['gold_from']}: {said or 'none'}.", ""]
    lines += _calls(files.calls)
    return "\n".join(lines).rstrip("\n")


def _of_results(results: Results, words: str) -> Iterator[str]:
    missed = [each for each in targets(results) if each.met is False]
    yield f"Targets missed{words}: {len(missed)}."
    yield ""
    yield from (f"- {each.text}: {each.found}" for each in missed)
    if missed:
        yield ""
    table = below_base_table(results)
    if table is None:
        yield f"No method is below the base beyond the paired interval{words}."
    else:
        yield f"Below the base beyond the paired interval{words}, pairwise accuracy in points ({ABSENT} elsewhere):"
        yield ""
        yield table
    yield ""
    kept = fruitless(results["notes"])
    if kept:
        yield f"Trainings that did not help on validation{words}:"
        yield ""
        yield from (f"- `{method}`, {said}: {', '.join(places)}" for (method, said), places in kept.items())
        yield ""


def fruitless(notes: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Scenarios, with seeds, in which a method gave way to what it started from; by method and what was said."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for note in notes:
        match = NOTE.fullmatch(note)
        if match:
            of_scenario = found.setdefault((match["method"], match["said"]), {})
            of_scenario.setdefault(match["scenario"], []).append(match["seed"])
    return {
        key: [f"{scenario} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})" for scenario, seeds in places.items()]
        for key, places in found.items()
    }


def _calls(calls: Sequence[Call]) -> Iterator[str]:
    cut = [call for call in calls if not call["finished"]]
    if not calls:
        return
    yield f"Calls of the study that were cut short and taken up again: {len(cut)}."
    yield from (f"- {call['part']}: `{call['command']}`" for call in cut)
