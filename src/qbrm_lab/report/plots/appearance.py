"""What all plots share: how a curve is drawn, sizes that a phone can show, plain axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from qbrm_lab.methods.catalogue import colour_of, marker_of

PHONE_WIDTH = 4.8
TEXT = 9
SMALL = 8
INK = "#222222"
PALE = "#d0d0d0"
LEGEND_COLUMNS = 2
LEGEND_ROW = 0.18
LEGEND: dict[str, Any] = {"fontsize": SMALL, "frameon": False}


def curve_of(method: str) -> dict[str, Any]:
    """How a method's curve is drawn: its colour and sign, broken if it is a variant of another method."""
    marker = "d" if method == "base" else marker_of(method)  # the bar that marks the base among dots is lost on a curve
    line = (0, (4, 1.5)) if ":" in method else "-"
    return {"color": colour_of(method), "marker": marker, "markersize": 4, "linestyle": line}


def new_figure(height: float, width: float = PHONE_WIDTH) -> Figure:
    """An empty figure in inches, apart from pyplot and its global state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy(axes: Axes, grid: str = "both") -> None:
    """Small labels, pale grid behind the data, no box."""
    axes.tick_params(labelsize=SMALL, colors=INK, length=0)
    axes.grid(axis=grid, color=PALE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def heading(axes: Axes, text: str) -> None:
    """A title that takes every character as it is."""
    axes.set_title(text, fontsize=TEXT, color=INK, fontweight="bold", parse_math=False)


def stacked(panel_height: float, entries: Sequence[int]) -> tuple[Figure, list[SubFigure]]:
    """A new figure and its panels, one below the other, each with room for a legend of that many entries."""
    heights = [panel_height + LEGEND_ROW * -(-count // LEGEND_COLUMNS) for count in entries]
    figure = new_figure(sum(heights))
    return figure, list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])


def legend_above(figure: Figure, handles: Sequence[Line2D], columns: int) -> None:
    """One legend for the whole figure."""
    plain_text(figure.legend(handles=handles, loc="outside upper center", ncols=columns, **LEGEND))


def legend_below(panel: SubFigure, handles: Sequence[Line2D], columns: int = LEGEND_COLUMNS) -> None:
    """One legend for a panel, where it hides no curve."""
    plain_text(panel.legend(handles=handles, loc="outside lower center", ncols=columns, **LEGEND))


def plain_text(legend: Legend) -> None:
    """Take every character of a legend as it is."""
    for text in legend.get_texts():
        text.set_parse_math(False)
