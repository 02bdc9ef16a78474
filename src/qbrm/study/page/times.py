"""What the study took."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.report.numbers import duration
from qbrm.study.journal import Call


def seconds_of(calls: Sequence[Call]) -> dict[str, float]:
    """Seconds by part, over all calls whose time is known."""
    spent: dict[str, float] = {}
    for call in calls:
        spent[call["part"]] = spent.get(call["part"], 0.0) + (call["seconds"] or 0.0)
    return spent


def time_taken(calls: Sequence[Call]) -> str:
    """What the study and each part of it took, as a sentence."""
    spent = seconds_of(calls)
    parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in spent.items())
    return f"Time taken, over all calls: {clock(sum(spent.values()))} ({parts})."


def clock(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return duration(seconds)
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
