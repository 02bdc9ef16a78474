"""What samplers cost and buy: accuracy against size, and error against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from qbrm_lab.report.plots.appearance import INK, SMALL, TEXT, heading, new_figure, tidy
from qbrm_lab.results.study_rows import SamplerErrorRow, SizeRow

COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#117733", "#999999")
MARKERS = ("o", "D", "^", "s", "v", "P", "X", "*")


def size_figure(scores: Sequence[SizeRow]) -> Figure:
    """Pairwise accuracy and log-loss against the number of hidden units, a line per score and sampler."""
    figure = new_figure(6.4)
    accuracy, loss = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys((row.score, row.sampler) for row in scores))
    for index, (score, sampler) in enumerate(names):
        rows = sorted((r for r in scores if (r.score, r.sampler) == (score, sampler)), key=lambda r: r.hidden)
        sizes = [row.hidden for row in rows]
        accuracy.plot(sizes, [100 * row.pairwise[0] for row in rows], label=f"{score}, {sampler}", **_style(index))
        loss.plot(sizes, [row.nll for row in rows], **_style(index))
    loss.set_xscale("log", base=2)
    loss.set_xticks(sorted({row.hidden for row in scores}))
    loss.get_xaxis().set_major_formatter("{x:.0f}")
    loss.set_xlabel("hidden units M", fontsize=TEXT, color=INK)
    accuracy.set_ylabel("pairwise accuracy, %", fontsize=TEXT, color=INK)
    loss.set_ylabel("log-loss, nats", fontsize=TEXT, color=INK)
    heading(accuracy, "Accuracy and log-loss against size")
    accuracy.legend(fontsize=SMALL - 1, frameon=False, ncols=2)
    for axes in (accuracy, loss):
        tidy(axes)
    return figure


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "markersize": 4, "linewidth": 1.4}


def error_figure(rows: Sequence[SamplerErrorRow]) -> Figure:
    """Total variation from the exact distribution against seconds per problem, a line per sampler."""
    figure = new_figure(4.2)
    axes = figure.subplots()
    floor = next(row.total_variation for row in rows if row.sampler == "exact")
    axes.axhline(floor, color=INK, linewidth=1, linestyle=":", label="independent exact states")
    for index, name in enumerate(dict.fromkeys(row.sampler for row in rows)):
        points = [row for row in rows if row.sampler == name]
        axes.plot([row.seconds for row in points], [row.total_variation for row in points], label=name, **_style(index))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds for 4,096 states of one problem", fontsize=TEXT, color=INK)
    axes.set_ylabel("total variation", fontsize=TEXT, color=INK)
    heading(axes, "Sampler error against time")
    axes.legend(fontsize=SMALL, frameon=False)
    tidy(axes)
    return figure
