"""The table that a comparison is for: methods against accuracy, calibration and cost."""

from __future__ import annotations

from typing import Literal

from qbrm.tables.grid import Column, Grid, column
from qbrm.tables.numbers import ABSENT, count, percent_interval, points_interval, three_decimals
from qbrm_lab.methods import is_baseline
from qbrm_lab.report.contest import contest
from qbrm_lab.report.numbers import duration, mean, percent_error, rate
from qbrm_lab.report.parts import SET_NAMES, Part, methods_of, sets_of, summary_row
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Difference, SetName, Stage, SummaryRow, Timing


def comparison_grid(part: Part) -> Grid:
    """Methods in rows; accuracies with intervals, log-loss, ECE, speed, training time and macro accuracies in columns.

    Log-loss and ECE are those of the pairwise set, if there is one.
    """
    results = part.results
    methods, sets = methods_of(results.summary), sets_of(results.summary)
    columns = [_accuracy(results, methods, name, "all", SET_NAMES[name]) for name in sets]
    columns += [_probability(results, methods, sets[0], "nll"), _probability(results, methods, sets[0], "ece")]
    columns += _sampling_columns(results, methods, sets[0])
    columns += _cost_columns(results.timings, methods)
    if any(row.category == "macro" for row in results.summary):
        columns += [_accuracy(results, methods, name, "macro", f"macro {SET_NAMES[name]}") for name in sets]
    return Grid(f"{part.title}: {extent(results)}", "method", tuple(methods), tuple(columns))


def extent(results: Results) -> str:
    """How much a part's numbers rest on, as ``3,310 pairwise, 940 best-of-n, 3 seeds``."""
    rows = [row for row in results.summary if row.category == "all"]
    sizes = {row.set: row.n for row in rows}
    seeds = max((row.seeds for row in rows), default=0)
    amounts = [f"{count(sizes[name])} {SET_NAMES[name]}" for name in SET_NAMES if name in sizes]
    return ", ".join([*amounts, f"{seeds} seed" + "s" * (seeds != 1)])


def difference_lines(part: Part) -> list[str]:
    """One line per set, energy score and reference, as ``pairwise   sqrbm over base +0.8 [+0.1, +1.5], paired ...``."""
    rows = [row for row in part.results.differences if not is_baseline(row.method) and row.category == "all"]
    width = max((len(SET_NAMES[name]) for name in sets_of(rows)), default=0)
    return [
        f"{SET_NAMES[name]:<{width}}  {row.method} over {row.reference} {difference(row)}, paired over prompts"
        for name in sets_of(rows)
        for row in rows
        if row.set == name
    ]


def difference(row: Difference) -> str:
    """A difference and its interval in percentage points."""
    return points_interval(row.difference, row.ci_low, row.ci_high) + percent_error(row.sampling_error)


def accuracy(row: SummaryRow | None) -> str:
    """An accuracy and its interval in percent."""
    if row is None:
        return ABSENT
    error = percent_error(row.sampling.accuracy_error) if row.sampling else ""
    return percent_interval(row.accuracy, row.ci_low, row.ci_high) + error


def timings_of(timings: list[Timing], method: str, stage: Stage) -> list[Timing]:
    """A method's timings of one stage."""
    return [timing for timing in timings if timing.method == method and timing.stage == stage]


def examples_per_second(timings: list[Timing]) -> float | None:
    """All examples over all seconds; None if no time was taken."""
    seconds = sum(timing.seconds for timing in timings)
    return sum(timing.examples for timing in timings) / seconds if seconds > 0 else None


def mean_seconds(timings: list[Timing]) -> float | None:
    """Seconds per run."""
    return mean([timing.seconds for timing in timings])


def _accuracy(results: Results, methods: list[str], set_name: SetName, category: str, heading: str) -> Column:
    rows = [summary_row(results, method, set_name, category) for method in methods]
    return contest(heading, [row.accuracy if row else None for row in rows], map(accuracy, rows))


def _probability(results: Results, methods: list[str], set_name: SetName, score: Literal["nll", "ece"]) -> Column:
    rows = [summary_row(results, method, set_name) for method in methods]
    values = [getattr(row, score) if row else None for row in rows]
    errors = [f" ±{getattr(row.sampling, f'{score}_error'):.4f}" if row and row.sampling else "" for row in rows]
    cells = [three_decimals(value) + error for value, error in zip(values, errors, strict=True)]
    return contest({"nll": "log-loss", "ece": "ECE"}[score], values, cells, min)


def _sampling_columns(results: Results, methods: list[str], set_name: SetName) -> list[Column]:
    """How many independent states the sampled ones are worth, where any method samples."""
    rows = [summary_row(results, method, set_name) for method in methods]
    sampled = [row.sampling if row else None for row in rows]
    cells = [count(sampling.effective_samples if sampling else None) for sampling in sampled]
    return [column("effective states", cells)] if any(sampled) else []


def _cost_columns(timings: list[Timing], methods: list[str]) -> list[Column]:
    rates = [examples_per_second(timings_of(timings, method, "refine")) for method in methods]
    seconds = [mean_seconds(timings_of(timings, method, "train")) for method in methods]
    return [contest("refine", rates, map(rate, rates)), contest("train", seconds, map(duration, seconds), min)]
