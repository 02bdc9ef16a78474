"""The table of what each method's uncertainty is worth."""

from __future__ import annotations

from collections.abc import Iterator

from qbrm.report.grid import Column, Grid, contest
from qbrm.report.numbers import decimal_interval, percent, three_decimals
from qbrm.report.parts import SET_NAMES, methods_of, sets_of
from qbrm.report.results import Deviation, Results, RiskCoverage, SetName

COVERAGES = (0.8, 0.5, 0.2)


def uncertainty_grid(results: Results) -> Grid | None:
    """Methods in rows; AURC with its interval, excess, accuracy at some coverages and AUROC of the deviation in columns.

    Args:
        results: those of one part.

    Returns:
        The table, or None if the results say nothing of it.
    """
    curves = results.get("risk_coverage", [])
    if not curves:
        return None
    methods = methods_of(curves)
    columns = tuple(column for name in sets_of(curves) for column in _columns(results, methods, name))
    return Grid("Abstaining and predicted deviation", "method", tuple(methods), columns)


def accuracy_at(row: RiskCoverage, coverage: float) -> float:
    """Accuracy of the most certain pairs, at the least coverage in the row that is not below the given one."""
    return next(
        (
            accuracy
            for share, accuracy in zip(row["coverage"], row["accuracy"], strict=True)
            if share >= coverage - 1e-6
        ),
        row["accuracy"][-1],
    )


def _columns(results: Results, methods: list[str], set_name: SetName) -> Iterator[Column]:
    curves = {row["method"]: row for row in results.get("risk_coverage", []) if row["set"] == set_name}
    found = [curves.get(method) for method in methods]
    yield contest(
        f"AURC {SET_NAMES[set_name]}", [row["aurc"] if row else None for row in found], map(_aurc, found), min
    )
    excess = [row["excess"] if row else None for row in found]
    yield contest("excess", excess, map(three_decimals, excess), min)
    for coverage in COVERAGES:
        accuracies = [accuracy_at(row, coverage) if row else None for row in found]
        yield contest(f"at {100 * coverage:.0f}%", accuracies, map(percent, accuracies))
    deviations = {row["method"]: row for row in results.get("deviation", []) if row["set"] == set_name}
    if deviations:
        told = [deviations.get(method) for method in methods]
        yield contest("AUROC", [row["auroc"] if row else None for row in told], map(_auroc, told))


def _aurc(row: RiskCoverage | None) -> str:
    return decimal_interval(row["aurc"], row["ci_low"], row["ci_high"]) if row else three_decimals(None)


def _auroc(row: Deviation | None) -> str:
    return decimal_interval(row["auroc"], row["ci_low"], row["ci_high"]) if row else three_decimals(None)
