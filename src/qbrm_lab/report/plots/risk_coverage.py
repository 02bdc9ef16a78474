"""Risk and coverage: how accurate decisions are when the least certain ones are left open."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm.tables.numbers import three_decimals
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.report.plots.appearance import INK, TEXT, curve_of, heading, legend_below, stacked, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import RiskCoverage

SIGN_EVERY = 10


def risk_coverage_figure(results: Results) -> Figure:
    """For each set, accuracy against the share of pairs that are decided; the area under the error in the legend."""
    curves = results.risk_coverage
    by_set = {name: [row for row in curves if row.set == name] for name in sets_of(curves)}
    figure, panels = stacked(3.2, [len(rows) for rows in by_set.values()])
    for panel, (name, rows) in zip(panels, by_set.items(), strict=True):
        axes = panel.subplots()
        _curves(axes, rows)
        heading(axes, SET_NAMES[name])
        legend_below(panel, axes.get_lines())
    return figure


def _curves(axes: Axes, rows: list[RiskCoverage]) -> None:
    for row in rows:
        share, accuracy = ([100 * value for value in values] for values in (row.coverage, row.accuracy))
        style = {**curve_of(row.method), "linewidth": 1.4, "markevery": (SIGN_EVERY - 1, SIGN_EVERY)}
        axes.plot(share, accuracy, label=f"{row.method}, AURC {three_decimals(row.aurc)}", **style)
    axes.set_xlim(0, 102)
    axes.set_xlabel("most certain pairs, which are decided, %", fontsize=TEXT, color=INK)
    axes.set_ylabel("accuracy, %", fontsize=TEXT, color=INK)
    tidy(axes)
