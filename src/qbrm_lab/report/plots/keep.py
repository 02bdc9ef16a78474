"""What keeping an old domain costs on a new one: a curve for every score and gate, over the weight of keeping."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.methods.catalogue import colour_of
from qbrm_lab.report.plots.appearance import INK, LEGEND, SMALL, TEXT, heading, new_figure, tidy
from qbrm_lab.results.study_rows import KeepRow

# Line and marker of a gate; a dot alone has no weight.
STYLES = {"none": ("-", "o"), "two-sided": ((0, (4, 1.5)), "s"), "density": ("none", "*")}
WORDS = {"none": "no gate", "two-sided": "two-sided gate", "density": "density gate"}


def frontier_figure(rows: Sequence[KeepRow]) -> Figure:
    """Accuracy on the new domain against accuracy, and order, kept on the old one."""
    figure = new_figure(7.4)
    accuracy, order = figure.subplots(2, 1, sharey=True)
    for axes, share, label in (
        (accuracy, "old", "pairs of the old domain decided right, %"),
        (order, "order", "pairs of the old domain in their old order, %"),
    ):
        _draw(axes, rows, share)
        axes.set_xlabel(label, fontsize=TEXT, color=INK)
        axes.set_ylabel("new domain decided right, %", fontsize=TEXT, color=INK)
        tidy(axes)
    heading(accuracy, "What keeping the old domain costs on the new one")
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, **LEGEND)
    return figure


def _draw(axes: Axes, rows: Sequence[KeepRow], share: str) -> None:
    for score, gate in dict.fromkeys((row.score, row.gate) for row in rows):
        line = sorted((row for row in rows if (row.score, row.gate) == (score, gate)), key=lambda row: row.weight)
        x, y = ([100 * getattr(row, name)[0] for row in line] for name in (share, "new"))
        if score == "base":
            # Far below on the new domain: its level there would flatten everything else.
            axes.axvline(x[0], color=INK, linewidth=1, linestyle=":", label=f"base ({y[0]:.1f}% on the new domain)")
            continue
        style, marker = STYLES[gate]
        size = 10 if gate == "density" else 4
        named = f"{score}, {WORDS[gate]}"
        axes.plot(x, y, color=_colour(score), linestyle=style, marker=marker, markersize=size, label=named)
        if gate != "density":
            for row, place in zip(line, zip(x, y, strict=True), strict=True):
                axes.annotate(f"{row.weight:g}", place, (3, 3), textcoords="offset points", fontsize=SMALL - 3)


def _colour(score: str) -> str:
    return "#E69F00" if score == "residual" else colour_of(score)
