"""Format numbers: intervals with three decimals, two or three digits of a time or rate."""

from __future__ import annotations

from math import floor, log10

from qbrm.tables.numbers import ABSENT, three_decimals


def percent_error(fraction: float | None) -> str:
    """A Monte-Carlo standard error in percentage points, to stand behind a number, as `` ±0.1``."""
    return "" if fraction is None else f" ±{100 * fraction:.1f}"


def decimal_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value and its interval to three decimals, as ``0.231 [0.210, 0.254]``."""
    if value is None or low is None or high is None:
        return three_decimals(value)
    return f"{three_decimals(value)} [{three_decimals(low)}, {three_decimals(high)}]"


def signed_interval(value: float, low: float, high: float) -> str:
    """A signed difference and its interval to three decimals, as ``-0.008 [-0.014, -0.001]``."""
    number, start, end = (f"{round(decimal, 3) + 0.0:+.3f}" for decimal in (value, low, high))
    return f"{number} [{start}, {end}]"


def rate(per_second: float | None) -> str:
    """Examples a second to three digits, as ``171,000/s``."""
    return ABSENT if per_second is None else f"{_significant(per_second, 3)}/s"


def duration(seconds: float | None) -> str:
    """Seconds, to two digits below ten and whole above."""
    if seconds is None:
        return ABSENT
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{_significant(seconds, 2)} s"


def mean(values: list[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None


def _significant(value: float, digits: int) -> str:
    if value <= 0:
        return "0"
    decimals = digits - 1 - floor(log10(value))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"
