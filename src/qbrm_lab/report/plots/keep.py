"""What keeping an old domain costs on a new one: a curve for every score and gate, over the weight of keeping."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.report.plots.appearance import INK, SMALL, TEXT, heading, new_figure, tidy
from qbrm_lab.results.study_rows import KeepRow

COLOURS = {"sqrbm": "#0072B2", "residual": "#E69F00"}
SPARE_COLOUR = "#CC79A7"
# Line and marker of a gate: a dot alone has no weight.
STYLES = {"none": ("-", "o"), "two-sided": ((0, (4, 1.5)), "s"), "density": ("none", "*")}
WORDS = {"none": "no gate", "two-sided": "two-sided gate", "density": "density gate"}


def frontier_figure(rows: Sequence[KeepRow]) -> Figure:
    """Accuracy on the new domain against accuracy, and order, kept on the old one."""
    figure = new_figure(7.0)
    accuracy, order = figure.subplots(2, 1, sharey=True)
    for axes, share, label in (
        (accuracy, "old", "accuracy on the old domain, %"),
        (order, "order", "pairs of the old domain in their old order, %"),
    ):
        _draw(axes, rows, share)
        axes.set_xlabel(label, fontsize=TEXT, color=INK)
        axes.set_ylabel("accuracy on the new domain, %", fontsize=TEXT, color=INK)
        tidy(axes)
    heading(accuracy, "What keeping the old domain costs on the new one")
    order.legend(fontsize=SMALL - 1, frameon=False, ncols=2, loc="lower left")
    return figure


def _draw(axes: Axes, rows: Sequence[KeepRow], share: str) -> None:
    for score, gate in dict.fromkeys((row.score, row.gate) for row in rows):
        line = sorted((row for row in rows if (row.score, row.gate) == (score, gate)), key=lambda row: row.weight)
        x, y = ([100 * getattr(row, name)[0] for row in line] for name in (share, "new"))
        if score == "base":
            axes.plot(x, y, "d", color=INK, markersize=6, label="base")
            continue
        style, marker = STYLES[gate]
        colour, label = COLOURS.get(score, SPARE_COLOUR), f"{score}, {WORDS[gate]}"
        size = 10 if gate == "density" else 4
        axes.plot(x, y, color=colour, linestyle=style, marker=marker, markersize=size, linewidth=1.4, label=label)
        for row, at, height in zip(line, x, y, strict=True):
            if gate == "none":
                axes.annotate(f"{row.weight:g}", (at, height), (3, 3), textcoords="offset points", fontsize=SMALL - 2)
