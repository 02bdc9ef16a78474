"""Timing several ways to do the same in one run, so that the machine's mood hits them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

ROUNDS = 5
LEAST_SECONDS = 0.2


class Work(NamedTuple):
    """Something to time.

    Attributes:
        run: does it once.
        rows: rows it handles.
    """

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


def _repeats(work: Work) -> int:
    work.run()
    return max(1, round(LEAST_SECONDS / _seconds(work, 1)))


def _seconds(work: Work, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work.run()
    return time.perf_counter() - start
