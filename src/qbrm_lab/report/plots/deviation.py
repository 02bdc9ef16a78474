"""Whether decisions err more where the score predicts a greater standard deviation."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm.tables.numbers import three_decimals
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.report.plots.appearance import INK, TEXT, curve_of, heading, legend_below, stacked, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Deviation


def deviation_figure(results: Results) -> Figure:
    """For each set, error rate of the pairs in order of predicted deviation; AUROC and deviations in the legend.

    Methods share an axis of ranks, as their deviations may differ by orders of magnitude.
    """
    by_set = {name: [row for row in results.deviation if row.set == name] for name in sets_of(results.deviation)}
    figure, panels = stacked(3.2, [2 * len(rows) for rows in by_set.values()])
    for panel, (name, rows) in zip(panels, by_set.items(), strict=True):
        axes = panel.subplots()
        _curves(axes, rows)
        heading(axes, SET_NAMES[name])
        legend_below(panel, axes.get_lines(), columns=1)
    return figure


def _curves(axes: Axes, rows: list[Deviation]) -> None:
    for row in rows:
        bins, error = len(row.error), [100 * share for share in row.error]
        place = [100 * (number + 0.5) / bins for number in range(bins)]
        axes.plot(place, error, label=_label(row), linewidth=1.4, **curve_of(row.method))
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pairs from the smallest predicted deviation to the greatest, %", fontsize=TEXT, color=INK)
    axes.set_ylabel("wrong decisions, %", fontsize=TEXT, color=INK)
    tidy(axes)


def _label(row: Deviation) -> str:
    low, high = (f"{row.deviation[end]:#.3g}" for end in (0, -1))
    return f"{row.method}, AUROC {three_decimals(row.auroc)}, deviation {low} to {high}"
