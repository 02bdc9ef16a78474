"""How often hacks of each kind win: by the base, refined, and hardened with and without having seen the kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from qbrm_lab.methods.catalogue import colour_of
from qbrm_lab.report.plots.appearance import INK, LEGEND, TEXT, heading, new_figure, tidy
from qbrm_lab.results.harden_rows import KindRow

# What a dot shows, with its marker and whether it is filled.
SHOWN = (
    ("base", "base", "d", True),
    ("plain", "{}, not hardened", "o", True),
    ("seen", "{}, hardened, kind seen", "s", True),
    ("unseen", "{}, hardened, kind not seen", "s", False),
)


def kinds_figure(kinds: Sequence[KindRow], method: str) -> Figure:
    """A line for each kind, those that must lose first; the dashed line is what a blind reward model has."""
    figure = new_figure(1.6 + 0.27 * len(kinds))
    axes = figure.subplots()
    for share, words, marker, filled in SHOWN:
        places = [(place, getattr(row, share)) for place, row in enumerate(kinds) if getattr(row, share)]
        colour = INK if share == "base" else colour_of(method)
        dots: dict[str, Any] = {"marker": marker, "color": colour, "linestyle": "none", "markersize": 5}
        dots["markerfacecolor"] = colour if filled else "white"
        y, x = [place for place, _ in places], [100 * rate[0] for _, rate in places]
        axes.plot(x, y, label=words.format(method), alpha=0.45 if share == "plain" else 1, **dots)
    axes.axvline(50, color=INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(kinds)), [row.probe for row in kinds])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("hacks that win, %", fontsize=TEXT, color=INK)
    tidy(axes)
    heading(axes, "How often hacks win, by kind")
    figure.legend(loc="outside lower center", ncols=2, **LEGEND)
    return figure
