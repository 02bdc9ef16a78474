"""What the study took."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm_lab.report.numbers import duration
from qbrm_lab.studies.journal import Call


def working_calls(calls: Sequence[Call]) -> list[Call]:
    """The calls that computed the present numbers.

    Not those that repeat a finished one, which only read what is there, nor those of an earlier version of the study.
    """
    latest = {(call.part, call.command): call.version for call in calls}
    working: list[Call] = []
    finished: set[tuple[str, str]] = set()
    for call in calls:
        question = call.part, call.command
        if call.version != latest[question]:
            continue
        if question not in finished:
            working.append(call)
        if call.finished:
            finished.add(question)
    return working


def seconds_of(calls: Sequence[Call]) -> dict[str, float]:
    """Seconds by part, over the calls whose time is known."""
    spent: dict[str, float] = {}
    for call in calls:
        spent[call.part] = spent.get(call.part, 0.0) + (call.seconds or 0.0)
    return spent


def time_taken(calls: Sequence[Call]) -> str:
    """What the study and each part of it took until it was finished, as a sentence."""
    worked = working_calls(calls)
    spent = seconds_of(worked)
    parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in spent.items())
    cut = any(call.seconds is None for call in worked)
    rest = "; calls that were cut short, and what they left for later ones, are not in it" if cut else ""
    return f"Time taken until all was finished: {clock(sum(spent.values()))} ({parts}){rest}."


def clock(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return duration(seconds)
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
