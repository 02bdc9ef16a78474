"""What policies write as they learn from rewards: a panel for each measure, a curve for each kind of rewards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.report.plots.appearance import INK, LEGEND, TEXT, heading, new_figure, tidy
from qbrm_lab.results.policy_rows import PolicyResults, PolicyRow

COLOURS = ("#222222", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = "dos^v"
PANEL = 1.7
WINDOW = 10  # updates over which the divergence is averaged, as each comes from one prompt


class Panel(NamedTuple):
    """A measure, how it is called, and whether it is drawn in standard deviations at the start or in percent."""

    measure: str
    label: str
    deviations: bool = False
    percent: bool = False


def policy_figure(results: PolicyResults) -> Figure:
    """Means over seeds with their intervals, over updates; below, the divergence from the start."""
    panels = list(_panels(results))
    figure = new_figure(0.8 + PANEL * (len(panels) + 1))
    *measured, divergence = figure.subplots(len(panels) + 1, 1, sharex=True)
    names = [name for name, _ in results.rewards]
    for axes, panel in zip(measured, panels, strict=True):
        for number, name in enumerate(names):
            rows = [row for row in results.rows if row.rewarded_by == name and row.measure == panel.measure]
            _draw(axes, panel, [row for row in rows if row.seed is None], number, name)
        axes.set_ylabel(panel.label, fontsize=TEXT, color=INK)
        tidy(axes)
    for number, name in enumerate(names):
        _draw_divergence(divergence, results, number, name)
    divergence.set_ylabel("KL, nats per token", fontsize=TEXT, color=INK)
    divergence.set_xlabel("updates", fontsize=TEXT, color=INK)
    tidy(divergence)
    heading(measured[0], "What policies write as they learn from rewards")
    handles, labels = measured[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, **LEGEND)
    return figure


def _panels(results: PolicyResults) -> Iterator[Panel]:
    yield from (Panel(name, f"{name} reward, SD", deviations=True) for name, _ in results.rewards)
    if results.gold is not None:
        yield Panel("gold", "gold reward, SD", deviations=True)
    yield Panel("tokens", "tokens")
    yield Panel("repetition", "repeated 4-grams, %", percent=True)
    yield Panel("shared", "shared 4-grams, %", percent=True)
    yield Panel("probe_like", "probe-like, %", percent=True)


def _draw(axes: Axes, panel: Panel, rows: list[PolicyRow], number: int, name: str) -> None:
    rows = sorted(rows, key=lambda row: row.step)
    scale = 100.0 if panel.percent else 1.0
    values = np.array([row.change if panel.deviations else row.mean for row in rows]) * scale
    if panel.deviations:
        values = values * _per_deviation(rows)
    steps = [row.step for row in rows]
    style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
    axes.plot(steps, values[:, 0], label=f"rewarded by {name}", **style)  # type: ignore[arg-type]
    axes.fill_between(steps, values[:, 1], values[:, 2], color=style["color"], alpha=0.15, linewidth=0)


def _per_deviation(rows: list[PolicyRow]) -> float:
    """One over the standard deviation at the start; 0 where nothing differs there."""
    return next((row.in_deviations / row.change[0] for row in rows if row.in_deviations and row.change[0]), 0.0)


def _draw_divergence(axes: Axes, results: PolicyResults, number: int, name: str) -> None:
    by_step: dict[int, list[float]] = {}
    for row in results.updates:
        if row.rewarded_by == name:
            by_step.setdefault(row.step, []).append(row.kl)
    steps = sorted(by_step)
    means = np.array([np.mean(by_step[step]) for step in steps])
    window = min(WINDOW, len(steps))
    if window:
        smooth = np.convolve(means, np.full(window, 1 / window), "valid")
        axes.plot(steps[window - 1 :], smooth, color=COLOURS[number % len(COLOURS)])
