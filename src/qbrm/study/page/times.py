"""What the study took, and whether that was within its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qbrm.report.numbers import duration
from qbrm.study.journal import Call
from qbrm.study.page.files import StudyFiles
from qbrm.study.robustness import Target

HOURS, QUICK_MINUTES = 3, 10
QUICK = "--quick"


def seconds_of(calls: Sequence[Call]) -> dict[str, float]:
    """Seconds by part, over all calls whose time is known."""
    spent: dict[str, float] = {}
    for call in calls:
        spent[call["part"]] = spent.get(call["part"], 0.0) + (call["seconds"] or 0.0)
    return spent


def time_lines(calls: Sequence[Call]) -> Iterator[str]:
    """What every part took."""
    if not calls:
        return
    spent = seconds_of(calls)
    parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in spent.items())
    yield ""
    yield f"Time taken: {clock(sum(spent.values()))} ({parts}), over all calls that worked on it; not counted: embedding kept from before."


def time_target(files: StudyFiles) -> Iterator[Target]:
    """Whether the study stayed within its limit; nothing is said of a part of it run alone."""
    calls = files.calls
    if not calls:
        return
    quick = any(QUICK in call["command"].split() for call in calls)
    text = f"--quick in under {QUICK_MINUTES} minutes" if quick else f"the whole study in under {HOURS} hours"
    seconds = sum(seconds_of(calls).values())
    cores = files.robustness["environment"]["cores"] if files.robustness is not None else "unknown"
    known = all(call["seconds"] is not None for call in calls)
    limit = 60 * QUICK_MINUTES if quick else 3600 * HOURS
    found = f"{clock(seconds)} on {cores} cores" + ("" if known else ", without calls that were killed")
    yield Target(f"{text}, on two cores, with cached features", found, seconds < limit if known else None)


def clock(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return duration(seconds)
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
