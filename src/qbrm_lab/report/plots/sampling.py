"""What samplers cost and buy: time to an equal log-loss, gain by size, and error against time, with 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qbrm_lab.report.plots.appearance import INK, LEGEND, LEGEND_COLUMNS, TEXT, heading, new_figure, tidy
from qbrm_lab.results.study_rows import SamplerErrorRow, SamplingRow

COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#117733", "#999999", "#882255", "#332288")
MARKERS = ("o", "D", "^", "s", "v", "P", "X", "*", "<", ">")
APART = 1.04  # between neighbouring curves, so that their error bars do not hide each other


class Interval(Protocol):
    """A mean and its interval, which a single seed does not have."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def ci_low(self) -> float | None:
        """Lower end."""

    @property
    def ci_high(self) -> float | None:
        """Upper end."""


def time_figure(rows: Sequence[SamplingRow]) -> Figure:
    """Processor time to an equal log-loss against the number of hidden units, a line per way to sum over them."""
    figure = new_figure(5.2)
    axes = figure.subplots()
    for index, name in enumerate(_names(rows)):
        shown = [row for row in rows if row.means == name and row.seconds is not None]
        points = [(row.hidden * APART ** (index - 4), row.seconds) for row in shown if row.seconds is not None]
        if points:
            _bars(axes, [size for size, _ in points], [value for _, value in points], name, index)
    axes.set_yscale("log")
    axes.set_ylabel("processor seconds", fontsize=TEXT, color=INK)
    heading(axes, "Training time to an equal log-loss")
    _by_size(axes, rows)
    return _with_legend(figure, axes)


def gain_figure(rows: Sequence[SamplingRow]) -> Figure:
    """Test log-loss less that of the closed form of equal size, against the number of hidden units."""
    figure = new_figure(5.2)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=1, linestyle=":")
    for index, name in enumerate(_names(rows)[1:], start=1):
        shown = [row for row in rows if row.means == name and row.nll_over is not None]
        points = [(row.hidden * APART ** (index - 4), row.nll_over) for row in shown if row.nll_over is not None]
        if points:
            _bars(axes, [size for size, _ in points], [value for _, value in points], name, index)
    axes.set_ylabel("nats over the closed form", fontsize=TEXT, color=INK)
    heading(axes, "What couplings change in test log-loss")
    _by_size(axes, rows)
    return _with_legend(figure, axes)


def error_figure(rows: Sequence[SamplerErrorRow]) -> Figure:
    """Total variation from the exact distribution against seconds per problem, a line per sampler."""
    figure = new_figure(5.2)
    axes = figure.subplots()
    floor = next(row.total_variation.mean for row in rows if row.sampler == "exact")
    axes.axhline(floor, color=INK, linewidth=1, linestyle=":", label="independent exact states")
    for index, name in enumerate(dict.fromkeys(row.sampler for row in rows)):
        points = [row for row in rows if row.sampler == name]
        _bars(axes, [row.seconds.mean for row in points], [row.total_variation for row in points], name, index)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("processor seconds for 4,096 states of one problem", fontsize=TEXT, color=INK)
    axes.set_ylabel("total variation", fontsize=TEXT, color=INK)
    heading(axes, "Sampler error against time")
    tidy(axes)
    return _with_legend(figure, axes)


def _names(rows: Sequence[SamplingRow]) -> list[str]:
    return list(dict.fromkeys(row.means for row in rows))


def _by_size(axes: Axes, rows: Sequence[SamplingRow]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row.hidden for row in rows}))
    axes.get_xaxis().set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_xlabel("hidden units M", fontsize=TEXT, color=INK)
    tidy(axes)


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    """Below the axes, where it hides no interval."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=LEGEND_COLUMNS, **LEGEND)
    return figure


def _bars(axes: Axes, at: Sequence[float], values: Sequence[Interval], name: str, index: int) -> None:
    reach = [
        [value.mean - value.ci_low if value.ci_low is not None else 0.0 for value in values],
        [value.ci_high - value.mean if value.ci_high is not None else 0.0 for value in values],
    ]
    style: dict[str, Any] = {"color": COLOURS[index % 10], "marker": MARKERS[index % 10], "markersize": 4}
    means = [value.mean for value in values]
    axes.errorbar(at, means, yerr=reach, label=name, linewidth=1.2, elinewidth=0.8, capsize=2, **style)
