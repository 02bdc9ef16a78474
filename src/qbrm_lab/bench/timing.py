"""Timing several implementations in one run, so that other load on the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

ROUNDS = 5
LEAST_SECONDS = 0.2


class Work(NamedTuple):
    """Something to time, and how many rows it handles."""

    run: Callable[[], object]
    rows: int


def rows_per_second(works: Mapping[str, Work]) -> dict[str, float]:
    """Median rate of each work over interleaved rounds; short works are repeated within a round."""
    repeats = {name: _repeats(work) for name, work in works.items()}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            seconds = _seconds(work, repeats[name])
            rates[name].append(work.rows * repeats[name] / seconds)
    return {name: median(values) for name, values in rates.items()}


def speed_rows(dim: int, methods: Sequence[str], rate: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per method, from the rates of the methods, their floors, and the published arithmetic."""
    return [
        {
            "dim": dim,
            "method": method,
            "rows_per_s": rate[method],
            "ratio_to_published": rate[method] / rate["published"],
            "ratio_to_ebrm": rate[method] / rate["ebrm"],
            "multiple_of_floor": rate[f"{method} floor"] / rate[method],
        }
        for method in methods
    ]


def _repeats(work: Work) -> int:
    work.run()
    return max(1, round(LEAST_SECONDS / _seconds(work, 1)))


def _seconds(work: Work, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work.run()
    return time.perf_counter() - start
