"""The parts of a comparison: one per scenario and test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from qbrm_lab.results import Results, Tables
from qbrm_lab.results.rows import SetName, SummaryRow

SET_NAMES: dict[SetName, str] = {"pairwise": "pairwise", "bon": "best-of-n"}


@dataclass(frozen=True)
class Part:
    """What the results say of one scenario and test; `results` lack those of other parts."""

    scenario: str
    test: str
    domain: str | None
    results: Results

    @property
    def title(self) -> str:
        """Scenario and test, as headings name them."""
        return f"{self.scenario} · {self.test}"

    @property
    def name(self) -> str:
        """The scenario, and the domain if the part is about one: as tables of many parts head their columns."""
        return f"{self.scenario} on {self.domain}" if self.domain else self.scenario


def parts(results: Results) -> list[Part]:
    """The parts, in the order in which the results name them."""
    keys = dict.fromkeys((row.scenario, row.test, row.domain) for row in results.summary)
    return [Part(scenario, test, domain, _only(results, scenario, test)) for scenario, test, domain in keys]


def methods_of(rows: Iterable[Any]) -> list[str]:
    """Methods in order of appearance."""
    return list(dict.fromkeys(row.method for row in rows))


def sets_of(rows: Iterable[Any]) -> list[SetName]:
    """The sets that occur, pairwise first."""
    present = {row.set for row in rows}
    return [name for name in SET_NAMES if name in present]


def summary_row(results: Results, method: str, set_name: SetName, category: str = "all") -> SummaryRow | None:
    """A part's summary row, if it is there."""
    rows = (row for row in results.summary if (row.method, row.set, row.category) == (method, set_name, category))
    return next(rows, None)


def _only(results: Results, scenario: str, test: str) -> Results:
    """The rows of one part; facts are about the whole."""
    tables = [part.name for part in fields(Tables) if part.name != "facts"]
    rows: Any = {name: [row for row in getattr(results, name) if _is_about(row, scenario, test)] for name in tables}
    return replace(results, **rows)


def _is_about(row: Any, scenario: str, test: str) -> bool:
    """Timings and epochs are about no test, and the timings of early versions about no scenario."""
    return row.scenario in (None, scenario) and getattr(row, "test", test) == test
