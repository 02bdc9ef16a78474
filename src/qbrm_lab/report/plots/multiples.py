"""All parts of a study side by side: a small panel for each, a few methods in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qbrm_lab.methods import is_trained
from qbrm_lab.methods.catalogue import colour_of, marker_of
from qbrm_lab.report.parts import Part, methods_of
from qbrm_lab.report.plots.appearance import INK, SMALL, TEXT, curve_of, heading, legend_above, tidy
from qbrm_lab.report.plots.appearance import new_figure as empty_figure

WIDTH = 9.6
ACROSS = 3
ROW = 0.17
FEWEST_DECISIONS = 30
SIGN_EVERY = 10


def difference_panels(parts: Sequence[Part], reference: str) -> Figure:
    """A panel per part: each trained method's pairwise accuracy less the reference's, with its paired interval."""
    rows = [[row for row in _rows(part, "differences") if _is_drawn(row, reference)] for part in parts]
    methods = methods_of(row for of_part in rows for row in of_part)
    figure, panels = _panels(parts, 0.55 + ROW * len(methods))
    for axes, of_part in zip(panels, rows, strict=True):
        axes.axvline(0, color=INK, linewidth=1)
        for row in of_part:
            place, value = methods.index(row.method), 100 * row.difference
            ends = [[value - 100 * row.ci_low], [100 * row.ci_high - value]]
            colour, marker = colour_of(row.method), marker_of(row.method)
            axes.errorbar(value, place, xerr=ends, color=colour, marker=marker, markersize=4, linewidth=1.4)
        axes.set_yticks(range(len(methods)), methods, parse_math=False)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        tidy(axes)
    _label(figure, f"pairwise accuracy over {reference}, points", "")
    return figure


def _is_drawn(row: Any, reference: str) -> bool:
    return row.reference == reference and row.category == "all" and is_trained(row.method)


def risk_coverage_panels(parts: Sequence[Part], methods: Sequence[str]) -> Figure:
    """A panel per part: pairwise accuracy against the share of pairs that are decided."""

    def draw(axes: Axes, row: Any) -> None:
        share, accuracy = ([100 * value for value in values] for values in (row.coverage, row.accuracy))
        axes.plot(share, accuracy, linewidth=1.3, markevery=(SIGN_EVERY - 1, SIGN_EVERY), **curve_of(row.method))

    figure = _curves(parts, methods, "risk_coverage", draw)
    _label(figure, "most certain pairs, which are decided, %", "accuracy, %")
    return figure


def deviation_panels(parts: Sequence[Part], methods: Sequence[str]) -> Figure:
    """A panel per part: wrong decisions among the pairs in order of the predicted deviation, a tenth each."""

    def draw(axes: Axes, row: Any) -> None:
        bins = len(row.error)
        place = [100 * (number + 0.5) / bins for number in range(bins)]
        axes.plot(place, [100 * error for error in row.error], linewidth=1.3, **curve_of(row.method))

    figure = _curves(parts, methods, "deviation", draw)
    figure.axes[0].set_ylim(bottom=0)
    _label(figure, "pairs from the smallest predicted deviation to the greatest, %", "wrong decisions, %")
    return figure


def calibration_panels(parts: Sequence[Part], methods: Sequence[str]) -> Figure:
    """A panel per part: share of pairwise decisions that is right against their confidence, in bins of 30 or more."""

    def draw(axes: Axes, row: Any) -> None:
        axes.plot(row.confidence, row.accuracy, linewidth=1.3, **curve_of(row.method))

    figure = _curves(parts, methods, "reliability", draw, _joined)
    for axes in figure.axes:
        axes.plot([0.5, 1], [0.5, 1], color=INK, linewidth=1, linestyle=":", zorder=0)
    _label(figure, "confidence of the decision", "share that is right")
    return figure


def _curves(
    parts: Sequence[Part],
    methods: Sequence[str],
    table: str,
    draw: Callable[[Axes, Any], None],
    joined: Callable[[list[Any]], list[Any]] = list,
) -> Figure:
    figure, panels = _panels(parts, 2.3)
    shown: list[str] = []
    for axes, part in zip(panels, parts, strict=True):
        rows = {row.method: row for row in joined(_rows(part, table))}
        for method in (method for method in methods if method in rows):
            draw(axes, rows[method])
            shown.append(method)
        tidy(axes)
    handles = [Line2D([], [], label=method, linewidth=1.3, **curve_of(method)) for method in dict.fromkeys(shown)]
    legend_above(figure, handles, columns=6)
    return figure


class _Reliability(NamedTuple):
    method: str
    confidence: list[float]
    accuracy: list[float]


def _joined(bins: list[Any]) -> list[Any]:
    """The bins of each method as one row, without those of few decisions."""
    bins = [row for row in bins if row.n >= FEWEST_DECISIONS]
    rows = {method: [row for row in bins if row.method == method] for method in methods_of(bins)}
    return [
        _Reliability(method, [row.confidence for row in own], [row.accuracy for row in own])
        for method, own in rows.items()
    ]


def _rows(part: Part, table: str) -> list[Any]:
    return [row for row in getattr(part.results, table) if row.set == "pairwise"]


def _panels(parts: Sequence[Part], height: float) -> tuple[Figure, list[Axes]]:
    down = -(-len(parts) // ACROSS)
    figure = empty_figure(0.6 + height * down, WIDTH)
    grid = figure.subplots(down, ACROSS, squeeze=False, sharey=True).ravel()
    for axes, part in zip(grid, parts, strict=False):
        heading(axes, part.name)
        axes.tick_params(labelsize=SMALL)
    for axes in grid[len(parts) :]:
        axes.remove()
    return figure, list(grid[: len(parts)])


def _label(figure: Figure, across: str, up: str) -> None:
    figure.supxlabel(across, fontsize=TEXT, color=INK)
    if up:
        figure.supylabel(up, fontsize=TEXT, color=INK)
