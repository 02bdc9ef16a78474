"""The tables of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from qbrm.tables.grid import Column, Grid, column
from qbrm.tables.markdown import markdown_grid
from qbrm.tables.numbers import ABSENT, count, percent_interval, points, points_interval, three_decimals
from qbrm_lab.comparison.records import REFERENCES
from qbrm_lab.report.comparison import accuracy, difference
from qbrm_lab.report.contest import contest
from qbrm_lab.report.numbers import decimal_interval
from qbrm_lab.report.parts import SET_NAMES, Part, methods_of, parts, sets_of, summary_row
from qbrm_lab.results import Results, SetName
from qbrm_lab.results.rows import Difference, is_below
from qbrm_lab.results.study_rows import CoverageRow
from qbrm_lab.studies.page.verdicts import difference_of, standing


def scenario_table(part: Part) -> str:
    """One part: accuracies with intervals, paired differences, macro averages, log-loss, ECE and AURC, by method."""
    results = part.results
    methods, sets = methods_of(results.summary), sets_of(results.summary)
    first = sets[0]
    columns = [_accuracy(results, methods, first, "all", SET_NAMES[first])]
    columns += [
        _over(part, methods, reference, first, f"over {reference}") for reference in REFERENCES if reference in methods
    ]
    for name in sets[1:]:
        columns.append(_accuracy(results, methods, name, "all", SET_NAMES[name]))
        columns.append(_over(part, methods, "base", name, f"{SET_NAMES[name]} over base"))
    columns += [_accuracy(results, methods, name, "macro", f"macro {SET_NAMES[name]}") for name in sets]
    rows = [summary_row(results, method, first) for method in methods]
    areas = {row.method: row.aurc for row in results.risk_coverage if row.set == first}
    for heading, values in (
        ("log-loss", [row.nll if row else None for row in rows]),
        ("ECE", [row.ece if row else None for row in rows]),
        ("AURC", [areas.get(method) for method in methods]),
    ):
        columns.append(contest(heading, values, map(three_decimals, values), min))
    return _table("method", methods, columns)


def standing_table(results: Results, method: str) -> str:
    """Where a method is above each reference, not told apart from it or below it, by pairwise accuracy in points."""
    standings = {reference: standing(parts(results), method, reference) for reference in REFERENCES}
    known = {reference: rows for reference, rows in standings.items() if any(rows)}
    headings = ("above it beyond the interval", "not told apart", "below it")
    columns = [
        column(heading, [_by_name(rows[place]) for rows in known.values()]) for place, heading in enumerate(headings)
    ]
    return _table(f"{method} against", known, columns)


def data_table(results: Results) -> str:
    """Prompts, pairs and categories of what was trained and tested on."""
    data = results.data
    columns = [column("used for", [row.role for row in data])]
    for name in ("prompts", "pairs", "categories", "pairwise", "bon"):
        heading = "best-of-n" if name == "bon" else name
        columns.append(column(heading, [count(getattr(row, name)) for row in data]))
    return _table("data", [row.name for row in data], columns)


def area_table(results: Results) -> str:
    """Area under the risk-coverage curve, methods in rows, parts in columns."""
    return _by_part(results, "risk_coverage", "aurc", min)


def deviation_table(results: Results) -> str:
    """How well the standard deviation of r tells wrong decisions from right ones, likewise."""
    return _by_part(results, "deviation", "auroc", max)


def below_base_table(results: Results, name: SetName) -> str | None:
    """Methods that are below the base beyond the paired interval in some part, and by how much; None if none is."""
    all_parts = parts(results)
    cells: dict[str, list[str]] = {}
    for method in methods_of(results.summary):
        rows = [difference_of(part, method, "base", name) for part in all_parts]
        if any(map(is_below, rows)):
            cells[method] = [difference(row) if row is not None and is_below(row) else ABSENT for row in rows]
    if not cells:
        return None
    columns = [
        column(part.name, texts) for part, texts in zip(all_parts, zip(*cells.values(), strict=True), strict=True)
    ]
    return _table("method", cells, columns)


def coverage_table(rows: Sequence[CoverageRow]) -> str:
    """How often intervals contain the true reward: mean over worlds, with the least and the greatest of them."""
    fits = list(dict.fromkeys(row.fitted_to for row in rows))
    columns = []
    for level in dict.fromkeys(row.level for row in rows):
        texts = []
        for fitted_to in fits:
            shares = [row.coverage for row in rows if (row.fitted_to, row.level) == (fitted_to, level)]
            texts.append(percent_interval(sum(shares) / len(shares), min(shares), max(shares)))
        columns.append(column(f"{level:.0%} interval", texts))
    return _table("fitted to simulated", fits, columns)


def _accuracy(results: Results, methods: Sequence[str], name: SetName, category: str, heading: str) -> Column:
    rows = [summary_row(results, method, name, category) for method in methods]
    return contest(heading, [row.accuracy if row else None for row in rows], map(accuracy, rows))


def _over(part: Part, methods: Sequence[str], reference: str, name: SetName, heading: str) -> Column:
    rows = [difference_of(part, method, reference, name) for method in methods]
    return column(
        heading, [points_interval(row.difference, row.ci_low, row.ci_high) if row else ABSENT for row in rows]
    )


def _by_name(rows: Mapping[str, Difference]) -> str:
    return ", ".join(f"{name} {points(row.difference)}" for name, row in rows.items()) or ABSENT


def _by_part(results: Results, table: str, key: str, best: Callable[..., float]) -> str:
    """A number of the pairwise rows of a table with its interval, methods in rows, parts in columns."""
    of_parts: dict[str, dict[str, Any]] = {
        part.name: {row.method: row for row in getattr(part.results, table) if row.set == "pairwise"}
        for part in parts(results)
    }
    methods = list(dict.fromkeys(method for rows in of_parts.values() for method in rows))
    columns = []
    for name, row_of in of_parts.items():
        rows = [row_of.get(method) for method in methods]
        values = [getattr(row, key) if row else None for row in rows]
        texts = [
            decimal_interval(value, row.ci_low, row.ci_high) if row else ABSENT
            for value, row in zip(values, rows, strict=True)
        ]
        columns.append(contest(name, values, texts, best))
    return _table("method", methods, columns)


def _table(corner: str, labels: Iterable[str], columns: Iterable[Column]) -> str:
    return markdown_grid(Grid("", corner, tuple(labels), tuple(columns)))
