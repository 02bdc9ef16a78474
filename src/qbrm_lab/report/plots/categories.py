"""Accuracy in each category: the base rewards and the refined ones."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qbrm_lab.methods import is_baseline
from qbrm_lab.methods.catalogue import colour_of, marker_of
from qbrm_lab.report.categories import CategoryScores, category_scores
from qbrm_lab.report.parts import SET_NAMES, methods_of, sets_of
from qbrm_lab.report.plots.appearance import INK, PALE, SMALL, TEXT, heading, legend_above, new_figure, tidy
from qbrm_lab.results import Results

ROW_HEIGHT = 0.36
DODGE = 0.09


def category_figure(results: Results) -> Figure:
    """One panel per set and one row per category, from the base's best to its worst."""
    sets = sets_of(results.rows)
    methods = [method for method in methods_of(results.rows) if method == "base" or not is_baseline(method)]
    panels = [category_scores(results, name) for name in sets]
    heights = [0.8 + ROW_HEIGHT * len(scores) for scores in panels]
    figure = new_figure(0.5 + sum(heights))
    grid = figure.subplots(len(sets), 1, squeeze=False, height_ratios=heights)
    for (axes,), name, scores in zip(grid, sets, panels, strict=True):
        _panel(axes, scores, methods)
        heading(axes, f"{SET_NAMES[name]} accuracy, %")
    legend_above(figure, [_handle(method) for method in methods], columns=min(len(methods), 5))
    return figure


def _panel(axes: Axes, scores: list[CategoryScores], methods: list[str]) -> None:
    tidy(axes, grid="x")
    for row, score in enumerate(scores):
        if score.interval:
            ends = [100 * end for end in score.interval]
            axes.plot(ends, [row, row], color=PALE, linewidth=7, solid_capstyle="butt", zorder=1)
    refined = [method for method in methods if method != "base"]
    for method in methods:
        offset = 0.0 if method == "base" else DODGE * (refined.index(method) - (len(refined) - 1) / 2)
        points = [(100 * s.accuracy[method], row + offset) for row, s in enumerate(scores) if method in s.accuracy]
        axes.plot(*zip(*points, strict=True), label=method, zorder=2 + (method != "base"), **_sign(method))
    _name_rows(axes, scores)


def _name_rows(axes: Axes, scores: list[CategoryScores]) -> None:
    axes.set_xlim(-2, 102)
    axes.set_ylim(len(scores) - 0.6, -0.9)
    axes.set_yticks([])
    axes.tick_params(labeltop=True)
    for row, score in enumerate(scores):
        text, box = f"{score.category}  (n = {score.n:,})", {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        style: dict[str, Any] = {
            "fontsize": SMALL - 0.5,
            "color": INK,
            "va": "bottom",
            "parse_math": False,
            "bbox": box,
        }
        axes.annotate(text, (0, row), xytext=(0, 7), textcoords="offset points", **style)


def _sign(method: str) -> dict[str, Any]:
    colour = colour_of(method)
    size, width, edge = (13, 2, colour) if method == "base" else (5, 0.6, "white")
    sign = {"color": colour, "marker": marker_of(method), "markersize": size, "linestyle": "none"}
    return {**sign, "markeredgewidth": width, "markeredgecolor": edge}


def _handle(method: str) -> Line2D:
    return Line2D([], [], label=method, **{**_sign(method), "markersize": TEXT if method == "base" else 6})
