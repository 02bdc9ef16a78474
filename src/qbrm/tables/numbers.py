"""Format numbers: percent with one decimal, a hyphen where there is none."""

from __future__ import annotations

ABSENT = "-"


def percent(fraction: float | None) -> str:
    """A fraction as percent, without the sign: 0.628 is 62.8."""
    return ABSENT if fraction is None else f"{100 * fraction:.1f}"


def percent_interval(fraction: float | None, low: float | None, high: float | None) -> str:
    """A fraction and its interval in percent, as ``62.8 [61.2, 64.4]``."""
    if fraction is None or low is None or high is None:
        return percent(fraction)
    return f"{percent(fraction)} [{percent(low)}, {percent(high)}]"


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


def count(number: float | None) -> str:
    """A whole number with thousands separated."""
    return ABSENT if number is None else f"{round(number):,}"
