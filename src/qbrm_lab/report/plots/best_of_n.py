"""Gold of the chosen candidate against the number chosen from, a panel per family of methods and source of training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.methods.catalogue import METHODS, colour_of, family_of
from qbrm_lab.report.plots.appearance import INK, LEGEND, SMALL, TEXT, heading, new_figure, plain_text, tidy
from qbrm_lab.results.study_rows import BestOfNRow

WIDTH, PANEL_HEIGHT = 9.6, 2.6
STYLES = ("-", "--", "-.", ":")
BASE, GOLD = "base", "@gold"
BESIDE = {BASE: "-", "longest": "--", "random": ":"}
# What chooses by gold itself lies far above everything else.
CEILING = "oracle"
# Readings of one density lie close together: the table has them all.
LEFT_OUT = (":mean", ",mean", ":lcb", ",lcb", ":mode", ",mode")


def best_of_n_figure(rows: Sequence[BestOfNRow]) -> Figure:
    """Curves of one file of candidates; bands are intervals. On the left methods trained on preferences, right on gold.

    Base, longest and random candidate are in every panel, what gold itself would choose in none.
    """
    methods = [name for name in dict.fromkeys(row.method for row in rows) if not _plain(name).endswith(LEFT_OUT)]
    families = [name for name in dict.fromkeys(map(family_of, map(_plain, methods))) if name in METHODS]
    sides = [name for name in ("", GOLD) if any(method.endswith(GOLD) == bool(name) for method in methods)]
    figure = new_figure(0.6 + PANEL_HEIGHT * len(families), WIDTH)
    grid = figure.subplots(len(families), len(sides), squeeze=False, sharex=True, sharey=True)
    for line, family in zip(grid, families, strict=True):
        for axes, side in zip(line, sides, strict=True):
            own = [name for name in methods if family_of(_plain(name)) == family and name.endswith(GOLD) == bool(side)]
            _panel(axes, rows, [name for name in own if name != BASE])
            heading(axes, f"{family}, trained on {'gold of other prompts' if side else 'preferences'}")
        line[0].set_ylabel("gold", fontsize=TEXT, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("n of best-of-n", fontsize=TEXT, color=INK)
    return figure


def _panel(axes: Axes, rows: Sequence[BestOfNRow], methods: Sequence[str]) -> None:
    for method, style in BESIDE.items():
        _draw(axes, [row for row in rows if row.method == method], style)
    for place, method in enumerate(methods):
        _draw(axes, [row for row in rows if row.method == method], STYLES[place % len(STYLES)], banded=place == 0)
    sizes = sorted({row.n for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    tidy(axes)
    plain_text(axes.legend(loc="upper left", **LEGEND | {"fontsize": SMALL - 2}))


def _draw(axes: Axes, rows: Sequence[BestOfNRow], style: str, *, banded: bool = False) -> None:
    if not rows:
        return
    n, colour = [row.n for row in rows], _colour(_plain(rows[0].method))
    if banded or rows[0].method == BASE:
        ends = [row.ci_low for row in rows], [row.ci_high for row in rows]
        axes.fill_between(n, *ends, color=colour, alpha=0.12, linewidth=0)
    axes.plot(n, [row.gold for row in rows], color=colour, linestyle=style, linewidth=1.4, label=_plain(rows[0].method))


def _plain(method: str) -> str:
    return method.removesuffix(GOLD)


def _colour(method: str) -> str:
    return colour_of("length") if method in ("longest", "random") else colour_of(method)
