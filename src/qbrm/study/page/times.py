"""What the study took."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.report.numbers import duration
from qbrm.study.journal import Call


def working_calls(calls: Sequence[Call]) -> list[Call]:
    """The calls that brought each part to its end: with its last command, up to the first that finished it.

    A call of a finished part takes up what is there, and one with another command answered another question.
    """
    found: list[Call] = []
    for part in dict.fromkeys(call["part"] for call in calls):
        of_part = [call for call in calls if call["part"] == part]
        same = [call for call in of_part if call["command"] == of_part[-1]["command"]]
        ends = [place for place, call in enumerate(same, start=1) if call["finished"]]
        found += same[: ends[0]] if ends else same
    return found


def seconds_of(calls: Sequence[Call]) -> dict[str, float]:
    """Seconds by part, over the calls whose time is known."""
    spent: dict[str, float] = {}
    for call in calls:
        spent[call["part"]] = spent.get(call["part"], 0.0) + (call["seconds"] or 0.0)
    return spent


def time_taken(calls: Sequence[Call]) -> str:
    """What the study and each part of it took until it was finished, as a sentence."""
    spent = seconds_of(working_calls(calls))
    parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in spent.items())
    return f"Time taken until all was finished: {clock(sum(spent.values()))} ({parts})."


def clock(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return duration(seconds)
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
