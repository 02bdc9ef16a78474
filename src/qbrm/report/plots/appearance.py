"""What all plots share: a colour and a sign for each method, sizes that a phone can show, plain axes."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

PHONE_WIDTH = 4.8
TEXT = 9
SMALL = 8
INK = "#222222"
PALE = "#d0d0d0"

# Okabe and Ito's colours, which stay apart for all common kinds of colour vision.
_COLOURS = {
    "length": "#999999",
    "base": "#222222",
    "mlp": "#E69F00",
    "ebrm": "#D55E00",
    "rbm": "#56B4E9",
    "sqrbm": "#0072B2",
    "qbm": "#009E73",
}
_SPARE_COLOURS = ("#CC79A7", "#882255", "#117733", "#661100")
_MARKERS = {"length": "x", "base": "|", "mlp": "v", "ebrm": "s", "rbm": "D", "sqrbm": "o", "qbm": "^"}
_SPARE_MARKERS = ("P", "X", "*", "h")


def colour_of(method: str) -> str:
    """The method's colour in every plot."""
    return _COLOURS.get(method) or _SPARE_COLOURS[crc32(method.encode()) % len(_SPARE_COLOURS)]


def marker_of(method: str) -> str:
    """The method's sign in every plot, so that colour is never the only difference."""
    return _MARKERS.get(method) or _SPARE_MARKERS[crc32(method.encode()) % len(_SPARE_MARKERS)]


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


def legend_above(figure: Figure, handles: Iterable[Line2D], columns: int) -> None:
    """One legend for the whole figure."""
    legend = figure.legend(
        handles=list(handles), loc="outside upper center", ncols=columns, fontsize=SMALL, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
