"""Training loss and validation accuracy after each epoch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qbrm_lab.methods import is_baseline
from qbrm_lab.methods.catalogue import colour_of
from qbrm_lab.report.parts import methods_of
from qbrm_lab.report.plots.appearance import INK, PHONE_WIDTH, SMALL, TEXT, heading, legend_above, new_figure, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Epoch

Measure = Literal["loss", "validation_loss", "validation_pairwise", "validation_bon"]
Curve = tuple[list[int], list[float]]

LABELS: dict[Measure, str] = {"loss": "loss", "validation_pairwise": "pairwise, %", "validation_bon": "best-of-n, %"}


def trained_scores(results: Results) -> list[str]:
    """The energy scores that have epochs."""
    return [method for method in methods_of(results.epochs) if not is_baseline(method)]


def training_figure(results: Results) -> Figure:
    """One column per energy score; loss, pairwise and best-of-n validation accuracy in rows.

    Seeds are thin lines and their mean a thick one; the accuracy at epoch 0, before training, is drawn through.
    """
    methods = trained_scores(results)
    measures = [measure for measure in LABELS if any(getattr(row, measure) is not None for row in results.epochs)]
    width = max(PHONE_WIDTH, 0.7 + 1.35 * len(methods))
    figure = new_figure(0.8 + 1.6 * len(measures), width)
    grid = figure.subplots(len(measures), len(methods), squeeze=False, sharex=True)
    for axes_row, measure in zip(grid, measures, strict=True):
        for axes, method in zip(axes_row, methods, strict=True):
            rows = [row for row in results.epochs if row.method == method]
            _draw(axes, rows, measure)
        axes_row[0].set_ylabel(LABELS[measure], fontsize=TEXT, color=INK)
        if measure != "loss":
            _share_scale(list(axes_row))
    for axes, method in zip(grid[0], methods, strict=True):
        heading(axes, method)
    for axes in grid[-1]:
        axes.set_xlabel("epoch", fontsize=SMALL, color=INK)
    legend_above(figure, _legend(), columns=2)
    return figure


def curves_of(rows: list[Epoch], measure: Measure) -> dict[int, Curve]:
    """Each seed's epochs and values, without the epochs that have no value; accuracies in percent."""
    scale = 1 if measure in ("loss", "validation_loss") else 100
    curves: dict[int, Curve] = {}
    for row in sorted(rows, key=lambda row: row.epoch):
        value = getattr(row, measure)
        if value is not None:
            epochs, values = curves.setdefault(row.seed, ([], []))
            epochs.append(row.epoch)
            values.append(scale * value)
    return curves


def mean_curve(curves: dict[int, Curve]) -> Curve:
    """The mean over seeds, at the epochs that all of them reached."""
    by_epoch: dict[int, list[float]] = {}
    for epochs, values in curves.values():
        for epoch, value in zip(epochs, values, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    shared = sorted(epoch for epoch, values in by_epoch.items() if len(values) == len(curves))
    return shared, [float(np.mean(by_epoch[epoch])) for epoch in shared]


def _draw(axes: Axes, rows: list[Epoch], measure: Measure) -> None:
    colour = colour_of(rows[0].method)
    curves = curves_of(rows, measure)
    for seed, curve in curves.items():
        axes.plot(*curve, color=colour, linewidth=0.7, alpha=0.5, label=f"seed {seed}")
    epochs, values = mean_curve(curves)
    axes.plot(epochs, values, color=colour, linewidth=2.2, marker="o", markersize=3, label="mean")
    if measure == "loss":
        validation = mean_curve(curves_of(rows, "validation_loss"))
        axes.plot(*validation, color=INK, linewidth=1, linestyle=(0, (4, 2)), label="validation")
        _name_objective(axes, rows)
    elif epochs and epochs[0] == 0:
        axes.axhline(values[0], color=INK, linewidth=1, linestyle=":", label="epoch 0")
    axes.set_xlim(left=-0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    tidy(axes)


def _name_objective(axes: Axes, rows: list[Epoch]) -> None:
    objectives = ", ".join(sorted({row.objective for row in rows if row.objective is not None}))
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "top"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(0.98, 0.97, objectives, fontsize=SMALL, color=INK, parse_math=False, bbox=box, **place)


def _share_scale(row: list[Axes]) -> None:
    limits = [axes.get_ylim() for axes in row if axes.lines] or [(0.0, 1.0)]
    for index, axes in enumerate(row):
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        axes.tick_params(labelleft=index == 0)


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, linewidth=2.2, marker="o", markersize=3, label="mean over seeds"),
        Line2D([], [], color=INK, linewidth=0.7, alpha=0.6, label="one seed"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 2)), label="validation loss"),
        Line2D([], [], color=INK, linewidth=1, linestyle=":", label="epoch 0: before training"),
    ]
