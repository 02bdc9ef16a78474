"""Tables of what each method's uncertainty is worth."""

from __future__ import annotations

from qbrm.tables.grid import Grid, column
from qbrm.tables.numbers import ABSENT, percent, three_decimals
from qbrm_lab.report.contest import contest
from qbrm_lab.report.numbers import decimal_interval, signed_interval
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Deviation, RiskCoverage

COVERAGES = (0.8, 0.5, 0.2)


def uncertainty_grids(results: Results) -> list[Grid]:
    """One table per set: AURC, differences of it, accuracy at some coverages and the deviation's AUROC, by method."""
    grids = []
    for name in sets_of(results.risk_coverage):
        curves = {row.method: row for row in results.risk_coverage if row.set == name}
        deviations = {row.method: row for row in results.deviation if row.set == name}
        grids.append(_grid(f"Abstaining and predicted deviation, {SET_NAMES[name]}", curves, deviations))
    return grids


def accuracy_at(row: RiskCoverage, coverage: float) -> float:
    """Accuracy of the most certain pairs, at the least coverage in the row that is not below the given one."""
    return next(
        (accuracy for share, accuracy in zip(row.coverage, row.accuracy, strict=True) if share >= coverage - 1e-6),
        row.accuracy[-1],
    )


def _grid(caption: str, curves: dict[str, RiskCoverage], deviations: dict[str, Deviation]) -> Grid:
    rows = curves.values()
    references = sorted({difference.reference for row in rows for difference in row.differences})
    excess = [row.excess for row in rows]
    columns = [
        contest("AURC", [row.aurc for row in rows], map(_aurc, rows), min),
        contest("excess", excess, map(three_decimals, excess), min),
        *(column(f"AURC over {reference}", (_over(row, reference) for row in rows)) for reference in references),
    ]
    for coverage in COVERAGES:
        accuracies = [accuracy_at(row, coverage) for row in rows]
        columns.append(contest(f"at {100 * coverage:.0f}%", accuracies, map(percent, accuracies)))
    if deviations:
        told = [deviations.get(method) for method in curves]
        columns.append(contest("AUROC", [row.auroc if row else None for row in told], map(_auroc, told)))
    return Grid(caption, "method", tuple(curves), tuple(columns))


def _aurc(row: RiskCoverage) -> str:
    return decimal_interval(row.aurc, row.ci_low, row.ci_high)


def _over(row: RiskCoverage, reference: str) -> str:
    over = next((difference for difference in row.differences if difference.reference == reference), None)
    return signed_interval(over.difference, over.ci_low, over.ci_high) if over else ABSENT


def _auroc(row: Deviation | None) -> str:
    return decimal_interval(row.auroc, row.ci_low, row.ci_high) if row else ABSENT
