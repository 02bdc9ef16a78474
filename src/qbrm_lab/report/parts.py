"""The parts of a comparison: one per scenario and test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from qbrm_lab.report.results import Results, SetName, SummaryRow

SET_NAMES: dict[SetName, str] = {"pairwise": "pairwise", "bon": "best-of-n"}
UNREFINED = ("length", "base", "mlp")
PART_TABLES = frozenset(
    ("rows", "summary", "differences", "reliability", "risk_coverage", "deviation", "densities", "epochs", "timings")
)


@dataclass(frozen=True)
class Part:
    """What the results say of one scenario and test.

    Args:
        scenario: its scenario.
        test: its test.
        results: the results without those of other parts.
    """

    scenario: str
    test: str
    results: Results

    @property
    def title(self) -> str:
        """Scenario and test, as headings name them."""
        return f"{self.scenario} · {self.test}"

    @property
    def name(self) -> str:
        """The scenario, and the domain if the part is about one: as tables of many parts head their columns."""
        _, _, domain = self.test.partition(", ")
        return f"{self.scenario} on {domain}" if domain else self.scenario


def parts(results: Results) -> list[Part]:
    """The parts, in the order in which the results name them."""
    keys = dict.fromkeys((row["scenario"], row["test"]) for row in results["summary"])
    return [Part(scenario, test, _only(results, scenario, test)) for scenario, test in keys]


def methods_of(rows: Iterable[Any]) -> list[str]:
    """Methods in order of appearance."""
    return list(dict.fromkeys(row["method"] for row in rows))


def sets_of(rows: Iterable[Any]) -> list[SetName]:
    """The sets that occur, pairwise first."""
    present = {row["set"] for row in rows}
    return [name for name in SET_NAMES if name in present]


def summary_row(results: Results, method: str, set_name: SetName, category: str = "all") -> SummaryRow | None:
    """A part's summary row, if it is there."""
    wanted = {"method": method, "set": set_name, "category": category}
    return next((row for row in results["summary"] if wanted.items() <= row.items()), None)


def _only(results: Results, scenario: str, test: str) -> Results:
    part = cast(dict[str, Any], dict(results))
    wanted = {"scenario": scenario, "test": test}
    for name in PART_TABLES & part.keys():
        part[name] = [row for row in part[name] if all(row.get(key, value) == value for key, value in wanted.items())]
    return cast(Results, part)
