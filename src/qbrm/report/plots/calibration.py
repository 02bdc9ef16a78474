"""Reliability: how often decisions of a given confidence are right."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm.report.numbers import three_decimals
from qbrm.report.parts import SET_NAMES, methods_of, sets_of, summary_row
from qbrm.report.plots.appearance import INK, PALE, SMALL, TEXT, colour_of, heading, marker_of, new_figure, tidy
from qbrm.report.results import ReliabilityBin, Results


def calibration_figure(results: Results) -> Figure:
    """For each set, accuracy against confidence with the bins' sizes beneath; ECE in the legend.

    Args:
        results: those of one part.
    """
    sets = sets_of(results["reliability"])
    figure = new_figure(4.9 * len(sets))
    grid = figure.subplots(2 * len(sets), 1, squeeze=False, height_ratios=[3, 1] * len(sets))[:, 0]
    for curves, sizes, name in zip(grid[::2], grid[1::2], sets, strict=True):
        bins = [row for row in results["reliability"] if row["set"] == name]
        labels = {method: _label(results, method, bins) for method in methods_of(bins)}
        _curves(curves, bins, labels)
        _sizes(sizes, bins)
        heading(curves, SET_NAMES[name])
    return figure


def _curves(axes: Axes, bins: list[ReliabilityBin], labels: dict[str, str]) -> None:
    start = min(0.5, *(row["confidence"] for row in bins))
    axes.plot([start, 1], [start, 1], color=INK, linewidth=1, linestyle=":", label="as sure as right")
    for method, label in labels.items():
        confidence, accuracy, _ = _columns(bins, method)
        axes.plot(confidence, accuracy, label=label, linewidth=1.6, **_sign(method))
    axes.set_ylabel("share that is right", fontsize=TEXT, color=INK)
    axes.tick_params(labelbottom=False)
    axes.set_xlim(start - 0.02, 1.02)
    tidy(axes)
    legend = axes.legend(fontsize=SMALL, loc="best", frameon=True, edgecolor=PALE, framealpha=0.85)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _sizes(axes: Axes, bins: list[ReliabilityBin]) -> None:
    for method in methods_of(bins):
        confidence, _, sizes = _columns(bins, method)
        axes.plot(confidence, sizes, label=method, linewidth=1, **_sign(method))
    axes.set_ylim(bottom=0)
    axes.set_xlim(min(0.5, *(row["confidence"] for row in bins)) - 0.02, 1.02)
    axes.set_ylabel("decisions", fontsize=TEXT, color=INK)
    axes.set_xlabel("confidence of the decision", fontsize=TEXT, color=INK)
    tidy(axes)


def _columns(bins: list[ReliabilityBin], method: str) -> tuple[list[float], list[float], list[int]]:
    rows = sorted((row for row in bins if row["method"] == method), key=lambda row: row["confidence"])
    return [row["confidence"] for row in rows], [row["accuracy"] for row in rows], [row["n"] for row in rows]


def _label(results: Results, method: str, bins: list[ReliabilityBin]) -> str:
    row = summary_row(results, method, bins[0]["set"])
    return f"{method}, ECE {three_decimals(row['ece'] if row else None)}"


def _sign(method: str) -> dict[str, Any]:
    marker = "d" if method == "base" else marker_of(method)
    return {"color": colour_of(method), "marker": marker, "markersize": 4}
