"""Gold reward against KL: what choosing harder by each proxy is worth."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.evaluation.best_of_n import best_of_n_kl
from qbrm_lab.methods.catalogue import colour_of, family_of
from qbrm_lab.report.parts import methods_of
from qbrm_lab.report.plots.appearance import INK, PALE, SMALL, TEXT, heading, new_figure, plain_text, tidy
from qbrm_lab.results.study_rows import CurveRow

PANEL_HEIGHT = 2.6
STYLES = ("-", "--", "-.", ":")
CEILING = "gold"


def over_optimisation_figure(rows: Sequence[CurveRow], gold: str = "gold reward") -> Figure:
    """One panel per family of methods, base in all of them; bands are intervals, dots where a curve is highest.

    What gold itself would choose is left out: it lies far above all proxies. `gold` is its name with its unit.
    """
    means = [row for row in rows if row.seed is None and row.method != CEILING]
    families: dict[str, list[str]] = {}
    for method in methods_of(means):
        families.setdefault(family_of(method), []).append(method)
    figure = new_figure(0.6 + PANEL_HEIGHT * len(families))
    grid = figure.subplots(len(families), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, (family, methods) in zip(grid, families.items(), strict=True):
        shown = methods if "base" in methods or "base" not in methods_of(means) else ["base", *methods]
        for method in shown:
            _draw(axes, [row for row in means if row.method == method], STYLES[_place(method, methods)])
        axes.set_ylabel(gold, fontsize=TEXT, color=INK)
        tidy(axes)
        plain_text(axes.legend(fontsize=SMALL, loc="best", frameon=True, edgecolor=PALE, framealpha=0.85))
        heading(axes, family)
    _count_responses(grid[0], max(row.n for row in means))
    grid[-1].set_xlabel("KL from the policy that is drawn from, nats", fontsize=TEXT, color=INK)
    return figure


def _place(method: str, family: list[str]) -> int:
    return family.index(method) % len(STYLES) if method in family else 0


def _draw(axes: Axes, rows: list[CurveRow], style: str) -> None:
    kl, gold = [row.kl for row in rows], [row.gold for row in rows]
    colour = colour_of(rows[0].method)
    ends = [row.ci_low for row in rows], [row.ci_high for row in rows]
    axes.fill_between(kl, *ends, color=colour, alpha=0.1, linewidth=0)
    peak = max(rows, key=lambda row: row.gold)
    label = f"{peak.method}, highest at n = {peak.n:,}"
    axes.plot(kl, gold, color=colour, linestyle=style, linewidth=1.6, label=label)
    axes.plot([peak.kl], [peak.gold], color=colour, marker="o", markersize=4, linestyle="none")


def _count_responses(axes: Axes, most: int) -> None:
    """A second scale above, by the number of responses chosen from, which is even in log n but for the smallest."""
    n = [10**power for power in range(len(str(most)))] if most >= 10 else list(range(1, most + 1))
    above = axes.secondary_xaxis("top")
    above.set_ticks([float(kl) for kl in best_of_n_kl(n)], labels=[f"{size:,}" for size in n])
    above.tick_params(labelsize=SMALL, colors=INK, length=0)
    above.spines["top"].set_visible(False)
    above.set_xlabel("n of best-of-n", fontsize=TEXT, color=INK)
