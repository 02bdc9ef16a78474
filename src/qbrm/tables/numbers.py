"""Format numbers: percent with one decimal, three digits of a rate, a hyphen where there is none."""

from __future__ import annotations

from math import floor, log10

ABSENT = "-"


def percent(fraction: float | None) -> str:
    """A fraction as percent, without the sign: 0.628 is 62.8."""
    return ABSENT if fraction is None else f"{100 * fraction:.1f}"


def percent_interval(fraction: float | None, low: float | None, high: float | None) -> str:
    """A fraction and its interval in percent, as ``62.8 [61.2, 64.4]``."""
    if fraction is None or low is None or high is None:
        return percent(fraction)
    return f"{percent(fraction)} [{percent(low)}, {percent(high)}]"


def percent_error(fraction: float | None) -> str:
    """A Monte-Carlo standard error in percentage points, to stand behind a number, as `` ±0.1``."""
    return "" if fraction is None else f" ±{100 * fraction:.1f}"


def points(fraction: float | None) -> str:
    """A difference of fractions in percentage points, signed: 0.008 is +0.8."""
    return ABSENT if fraction is None else f"{round(100 * fraction, 1) + 0.0:+.1f}"


def points_interval(fraction: float | None, low: float | None, high: float | None) -> str:
    """A difference and its interval, as ``+0.8 [+0.1, +1.5]``."""
    if fraction is None or low is None or high is None:
        return points(fraction)
    return f"{points(fraction)} [{points(low)}, {points(high)}]"


def three_decimals(value: float | None) -> str:
    """A log-loss, calibration error or area under a curve."""
    return ABSENT if value is None else f"{value:.3f}"


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


def count(number: float | None) -> str:
    """A whole number with thousands separated."""
    return ABSENT if number is None else f"{round(number):,}"


def mean(values: list[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None


def _significant(value: float, digits: int) -> str:
    if value <= 0:
        return "0"
    decimals = digits - 1 - floor(log10(value))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"
