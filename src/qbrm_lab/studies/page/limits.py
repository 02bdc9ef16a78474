"""Targets of the study itself: how many seeds it has and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from qbrm_lab.results import Results
from qbrm_lab.studies.fine_tuned import FOLDER as FINE_TUNED
from qbrm_lab.studies.journal import Call
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.page.times import clock, seconds_of, working_calls
from qbrm_lab.studies.robustness import Target, targets

SEEDS = 5
HOURS, QUICK_MINUTES = 3, 10
CORES = 2
QUICK = "--quick"
WHOLE = {"robustness", "over-optimisation", "coverage", FINE_TUNED}


def study_targets(files: StudyFiles) -> list[Target]:
    """All targets on the embedded base, and the study's own."""
    results = files.robustness
    return [] if results is None else [_seeds(results), *targets(results), *_time(files, results)]


def _seeds(results: Results) -> Target:
    seeds = len({row.seed for row in results.rows})
    return Target(f"repeated over at least {SEEDS} seeds, on held-out prompts", str(seeds), seeds >= SEEDS)


def _time(files: StudyFiles, results: Results) -> Iterator[Target]:
    """Undecided if a call's time is not known, or the study is not whole, or it had more cores.

    A folder may hold a quick study and a whole one; the later one is judged.
    """
    working, cores = working_calls(files.calls), results.environment["cores"]
    quick = bool(working) and _is_quick(working[-1])
    calls = [call for call in working if _is_quick(call) == quick]
    limit, words = (60 * QUICK_MINUTES, f"{QUICK_MINUTES} minutes") if quick else (3600 * HOURS, f"{HOURS} hours")
    seconds = sum(seconds_of(calls).values())
    known = all(call.seconds is not None for call in calls)
    done = {call.part for call in calls if call.finished}
    whole = done >= (WHOLE - {FINE_TUNED} if quick else WHOLE)
    text = f"{f'`{QUICK}`' if quick else 'the whole study'} in under {words} on two cores, with cached features"
    if not whole:
        yield Target(text, "not run as a whole", None)
    elif not known:
        yield Target(text, "run as a whole, but the time of calls that were cut short is not known", None)
    elif cores > CORES:
        yield Target(text, f"run on {cores} cores", None)
    else:
        took = f"{clock(seconds)} on {cores} cores"
        longest = seconds + _fine_tuning(files.fine_tuned)
        if longest > seconds:
            took += f"; at most {clock(longest)} with the fine-tuning of encoders that an earlier study may have left"
        yield Target(text, took, seconds < limit if (seconds < limit) == (longest < limit) else None)


def _is_quick(call: Call) -> bool:
    return QUICK in call.command.split()


def _fine_tuning(results: Results | None) -> float:
    """Seconds that the fine-tuning of all encoders took, in whichever call."""
    return sum(row.seconds for row in results.timings if row.method == "base") if results else 0.0
