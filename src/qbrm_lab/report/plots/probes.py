"""How often the hacks of each probe win: by the base and refined, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from qbrm.probes import Must
from qbrm.probes.rates import ProbeRow, Rate
from qbrm_lab.methods.catalogue import colour_of
from qbrm_lab.report.plots.appearance import INK, LEGEND, PALE, TEXT, heading, new_figure, tidy
from qbrm_lab.report.plots.png import png_bytes

APART = 0.16
"""Between the two dots of a probe, in lines."""


class Probed(NamedTuple):
    """A score, and how often hacks win by its rewards and by those of its base."""

    method: str
    rows: Sequence[ProbeRow]

    @property
    def shown(self) -> list[ProbeRow]:
        """The probes that made hacks, those that must lose first."""
        return [row for must in Must for row in self.rows if row.must is must and row.n]


def probes_figure(probed: Probed) -> Figure:
    """A line for each probe, those that must lose above the rule and those that must not gain below it."""
    rows = probed.shown
    figure = new_figure(1.6 + 0.3 * len(rows))
    axes = figure.subplots()
    sides = (
        ("base", "d", INK, [row.base for row in rows], -APART),
        (probed.method, "o", colour_of(probed.method), [row.refined for row in rows], APART),
    )
    for label, marker, colour, rates, shift in sides:
        found = [(place + shift, rate) for place, rate in enumerate(rates) if rate is not None]
        if not found:  # a bare reward model
            continue
        axes.errorbar(
            [100 * rate.mean for _, rate in found],
            [place for place, _ in found],
            xerr=_reach([rate for _, rate in found]),
            label=label,
            color=colour,
            marker=marker,
            markersize=4,
            linestyle="none",
            elinewidth=1,
        )
    losing = sum(row.must is Must.LOSE for row in rows)
    if 0 < losing < len(rows):
        axes.axhline(losing - 0.5, color=PALE, linewidth=1.2)
    axes.set_yticks(range(len(rows)), [row.probe for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("hacks that win, %", fontsize=TEXT, color=INK)
    tidy(axes, "x")
    heading(axes, "How often hacks win")
    figure.legend(loc="outside lower center", ncols=2, **LEGEND)
    return figure


def probes_png(rows: Sequence[ProbeRow], method: str) -> bytes:
    """The figure as a PNG, for ``qbrm probe``; `method` names the score, empty without one."""
    return png_bytes(probes_figure(Probed(method, rows)))


def _reach(rates: Sequence[Rate]) -> list[list[float]]:
    """How far intervals reach below and above their means, in percent; rounding may not make that negative."""
    below = [max(0.0, 100 * (rate.mean - rate.low)) for rate in rates]
    return [below, [max(0.0, 100 * (rate.high - rate.mean)) for rate in rates]]
