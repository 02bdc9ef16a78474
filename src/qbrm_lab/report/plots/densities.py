"""p(r given e) of a few examples."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qbrm_lab.report.plots.appearance import INK, SMALL, TEXT, heading, legend_above, new_figure, tidy
from qbrm_lab.results import Results
from qbrm_lab.results.rows import DensityExample, ResponseDensity

STYLES: dict[str, tuple[str, Literal["-", "--"]]] = {"chosen": ("#332288", "-"), "rejected": ("#CC6677", "--")}
ACROSS = 2


def density_figure(results: Results) -> Figure:
    """One panel per example: curves for its responses, ticks at base rewards, dots at refined ones."""
    examples = results.densities
    rows = -(-len(examples) // ACROSS)
    figure = new_figure(0.8 + 1.9 * rows)
    grid = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axes, example in zip(grid, examples, strict=False):
        _panel(axes, example)
    for axes in grid[len(examples) :]:
        axes.set_axis_off()
    figure.supxlabel("reward r", fontsize=TEXT, color=INK)
    figure.supylabel("p(r | e)", fontsize=TEXT, color=INK)
    legend_above(figure, _legend(), columns=2)
    return figure


def _panel(axes: Axes, example: DensityExample) -> None:
    for response in example.responses:
        _response(axes, response)
    axes.set_ylim(bottom=0)
    axes.set_xlim(*_range(example.responses))
    axes.set_yticks([])
    tidy(axes, grid="x")
    heading(axes, f"{example.method}\nP(chosen > rejected) = {example.probability:.2f}")
    axes.title.set_fontsize(SMALL)


def _response(axes: Axes, response: ResponseDensity) -> None:
    colour, line = STYLES[response.label]
    reward, density = np.asarray(response.reward), np.asarray(response.density)
    axes.plot(reward, density, color=colour, linestyle=line, linewidth=1.6, label=response.label)
    axes.fill_between(reward, density, color=colour, alpha=0.12, linewidth=0)
    axes.axvline(response.base_reward, 0, 0.12, color=colour, linewidth=2.5, label=f"base {response.label}")
    refined = response.refined_reward
    height = float(np.interp(refined, reward, density))
    axes.plot([refined], [height], "o", color=colour, markersize=6, label=f"refined {response.label}")


def _range(responses: list[ResponseDensity]) -> tuple[float, float]:
    visible = [
        reward
        for response in responses
        for reward, density in zip(response.reward, response.density, strict=True)
        if density > 1e-3 * max(response.density)
    ]
    marked = [reward for response in responses for reward in (response.base_reward, response.refined_reward)]
    low, high = min(visible + marked), max(visible + marked)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _legend() -> list[Line2D]:
    curves = [Line2D([], [], color=colour, linestyle=line, label=name) for name, (colour, line) in STYLES.items()]
    tick = Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=2.5, linestyle="none")
    tick.set_label("base reward")
    dot = Line2D([], [], color=INK, marker="o", markersize=6, linestyle="none", label="refined reward")
    return [*curves, tick, dot]
