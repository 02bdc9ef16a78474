"""Accuracy by method with its interval: what a comparison is looked at for first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qbrm.tables.numbers import percent
from qbrm_lab.methods import is_baseline
from qbrm_lab.methods.catalogue import colour_of
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.report.plots.appearance import INK, SMALL, curve_of, heading, legend_above, new_figure, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import SummaryRow

ROW_HEIGHT = 0.24
AROUND = 0.55
BASE = "base"


def accuracy_figure(results: Results) -> Figure:
    """One panel per set and one row per method, in the order of the table; the base is a vertical line.

    Baselines have hollow markers, energy scores filled ones.
    """
    panels = {name: accuracy_rows(results, name) for name in sets_of(results.summary)}
    heights = [AROUND + ROW_HEIGHT * len(rows) for rows in panels.values()]
    figure = new_figure(0.3 + sum(heights))
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, rows) in zip(grid, panels.items(), strict=True):
        _panel(axes, rows)
        heading(axes, f"{SET_NAMES[name]} accuracy, %")
    legend_above(figure, _handles([row.method for rows in panels.values() for row in rows]), columns=3)
    return figure


def accuracy_rows(results: Results, set_name: str) -> list[SummaryRow]:
    """The methods' accuracies over all items of a set."""
    return [
        row
        for row in results.summary
        if (row.set, row.category) == (set_name, "all") and None not in (row.accuracy, row.ci_low, row.ci_high)
    ]


def _panel(axes: Axes, rows: Sequence[SummaryRow]) -> None:
    tidy(axes, grid="x")
    for place, row in enumerate(rows):
        value, low, high = (100 * (number or 0.0) for number in (row.accuracy, row.ci_low, row.ci_high))
        if row.method == BASE:
            axes.axvline(value, color=INK, linewidth=1, zorder=1, label="base line")
        axes.plot([low, high], [place, place], color=colour_of(row.method), linewidth=1.4, zorder=2)
        axes.plot([value], [place], label=row.method, zorder=3, **_sign(row.method))
        told: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        axes.annotate(percent(row.accuracy), (1, place), xytext=(4, 0), fontsize=SMALL, color=INK, **told)
    axes.set_yticks(range(len(rows)), [row.method for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _sign(method: str) -> dict[str, Any]:
    """A method's marker: hollow if it is a baseline."""
    colour = colour_of(method)
    face = "white" if is_baseline(method) else colour
    style = {"color": colour, "marker": curve_of(method)["marker"], "markersize": 6.5, "linestyle": "none"}
    return {**style, "markerfacecolor": face, "markeredgewidth": 1.4, "markeredgecolor": colour}


def _handles(methods: Sequence[str]) -> list[Line2D]:
    """What line and markers mean, for what is drawn."""
    round_sign: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 6, "linestyle": "none"}
    handles = [Line2D([], [], color=INK, linewidth=1, label="the base")] if BASE in methods else []
    if any(map(is_baseline, methods)):
        handles.append(Line2D([], [], label="baseline", markerfacecolor="white", **round_sign))
    if not all(map(is_baseline, methods)):
        handles.append(Line2D([], [], label="energy score", **round_sign))
    return handles
