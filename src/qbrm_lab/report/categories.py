"""Accuracy by category, over all seeds."""

from __future__ import annotations

from dataclasses import dataclass

from qbrm.tables.grid import Grid, column
from qbrm.tables.numbers import count, percent
from qbrm_lab.report.numbers import mean
from qbrm_lab.report.parts import SET_NAMES, methods_of
from qbrm_lab.results import Results
from qbrm_lab.results.rows import ResultRow, Score, SetName

OVERALL = ("all", "macro")


@dataclass(frozen=True)
class CategoryScores:
    """Decisions in a category, each method's accuracy and the base's interval: means over seeds."""

    category: str
    n: int
    accuracy: dict[str, float]
    interval: tuple[float, float] | None


def category_scores(results: Results, set_name: SetName) -> list[CategoryScores]:
    """The categories of a part's set, from the base's best to its worst."""
    rows = [row for row in results.rows if row.set == set_name and row.category not in OVERALL]
    by_category: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_category.setdefault(row.category, []).append(row)
    scores = [_scores(category, rows) for category, rows in by_category.items()]
    return sorted(scores, key=lambda score: (-score.accuracy.get("base", 0), score.category))


def category_grid(results: Results, set_name: SetName) -> Grid:
    """Categories in rows, methods in columns."""
    scores = category_scores(results, set_name)
    columns = [column("n", [count(score.n) for score in scores])]
    for method in methods_of(results.rows):
        columns.append(column(method, [percent(score.accuracy.get(method)) for score in scores]))
    caption = f"Accuracy by category, {SET_NAMES[set_name]}, in percent"
    return Grid(caption, "category", tuple(score.category for score in scores), tuple(columns))


def _scores(category: str, rows: list[ResultRow]) -> CategoryScores:
    means = {
        method: mean(_values([row for row in rows if row.method == method], "accuracy")) for method in methods_of(rows)
    }
    accuracy = {method: value for method, value in means.items() if value is not None}
    base = [row for row in rows if row.method == "base"]
    low, high = mean(_values(base, "ci_low")), mean(_values(base, "ci_high"))
    interval = None if low is None or high is None else (low, high)
    return CategoryScores(category, round(mean([row.n for row in rows]) or 0), accuracy, interval)


def _values(rows: list[ResultRow], score: Score) -> list[float]:
    values = [getattr(row, score) for row in rows]
    return [value for value in values if value is not None]
