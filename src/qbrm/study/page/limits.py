"""Targets of the study itself: how many seeds it has and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from qbrm.report import Results
from qbrm.study.page.files import StudyFiles
from qbrm.study.page.times import clock, seconds_of
from qbrm.study.robustness import Target, targets

SEEDS = 5
HOURS, QUICK_MINUTES = 3, 10
QUICK = "--quick"
WHOLE = {"robustness", "over-optimisation", "coverage", "fine-tuned"}


def study_targets(files: StudyFiles) -> list[Target]:
    """All targets on the embedded base, and the study's own."""
    results = files.robustness
    return [] if results is None else [_seeds(results), *targets(results), *_time(files, results)]


def _seeds(results: Results) -> Target:
    found = len({row["seed"] for row in results["rows"]})
    return Target(f"repeated over at least {SEEDS} seeds, on held-out prompts", str(found), found >= SEEDS)


def _time(files: StudyFiles, results: Results) -> Iterator[Target]:
    """Nothing is said of calls that do not say what they took, nor of a study that is not whole."""
    quick = any(QUICK in call["command"].split() for call in files.calls)
    limit, words = (60 * QUICK_MINUTES, f"{QUICK_MINUTES} minutes") if quick else (3600 * HOURS, f"{HOURS} hours")
    spent = seconds_of(files.calls)
    done = {call["part"] for call in files.calls if call["finished"]}
    seconds = sum(spent.values())
    known = all(call["seconds"] is not None for call in files.calls)
    whole = quick or done >= WHOLE
    text = f"{f'`{QUICK}`' if quick else 'the whole study'} in under {words} on two cores, with cached features"
    found = f"{clock(seconds)} on {results['environment']['cores']} cores" if known and whole else "not run in whole"
    yield Target(text, found, seconds < limit if known and whole else None)
