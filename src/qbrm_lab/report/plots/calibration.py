"""Reliability: how often decisions of a given confidence are right."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm.tables.numbers import three_decimals
from qbrm_lab.report.parts import SET_NAMES, methods_of, sets_of, summary_row
from qbrm_lab.report.plots.appearance import INK, TEXT, curve_of, heading, legend_below, stacked, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import ReliabilityBin


def calibration_figure(results: Results) -> Figure:
    """For each set, accuracy against confidence with the bins' sizes beneath; ECE in the legend."""
    by_set = {name: [row for row in results.reliability if row.set == name] for name in sets_of(results.reliability)}
    figure, panels = stacked(4.5, [1 + len(methods_of(bins)) for bins in by_set.values()])
    for panel, (name, bins) in zip(panels, by_set.items(), strict=True):
        curves, sizes = panel.subplots(2, 1, height_ratios=[3, 1])
        _curves(curves, bins, {method: _label(results, method, bins) for method in methods_of(bins)})
        _sizes(sizes, bins)
        heading(curves, SET_NAMES[name])
        legend_below(panel, curves.get_lines())
    return figure


def _curves(axes: Axes, bins: list[ReliabilityBin], labels: dict[str, str]) -> None:
    start = min(0.5, *(row.confidence for row in bins))
    axes.plot([start, 1], [start, 1], color=INK, linewidth=1, linestyle=":", label="as sure as right")
    for method, label in labels.items():
        confidence, accuracy, _ = _columns(bins, method)
        axes.plot(confidence, accuracy, label=label, linewidth=1.6, **curve_of(method))
    axes.set_ylabel("share that is right", fontsize=TEXT, color=INK)
    axes.tick_params(labelbottom=False)
    axes.set_xlim(start - 0.02, 1.02)
    tidy(axes)


def _sizes(axes: Axes, bins: list[ReliabilityBin]) -> None:
    for method in methods_of(bins):
        confidence, _, sizes = _columns(bins, method)
        axes.plot(confidence, sizes, label=method, linewidth=1, **curve_of(method))
    axes.set_ylim(bottom=0)
    axes.set_xlim(min(0.5, *(row.confidence for row in bins)) - 0.02, 1.02)
    axes.set_ylabel("decisions", fontsize=TEXT, color=INK)
    axes.set_xlabel("confidence of the decision", fontsize=TEXT, color=INK)
    tidy(axes)


def _columns(bins: list[ReliabilityBin], method: str) -> tuple[list[float], list[float], list[int]]:
    rows = sorted((row for row in bins if row.method == method), key=lambda row: row.confidence)
    return [row.confidence for row in rows], [row.accuracy for row in rows], [row.n for row in rows]


def _label(results: Results, method: str, bins: list[ReliabilityBin]) -> str:
    row = summary_row(results, method, bins[0].set)
    return f"{method}, ECE {three_decimals(row.ece if row else None)}"
