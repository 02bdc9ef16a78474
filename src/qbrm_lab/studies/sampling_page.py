"""The tables of the study of sampling, with what was measured and how."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from qbrm.tables.numbers import ABSENT, percent_interval
from qbrm_lab.results.study_rows import Estimate, OverSeeds, SamplerErrorRow, SamplingResults, SamplingRow
from qbrm_lab.studies.sampler_training import CLOSED_FORM, FEWEST_STEPS

WIDTH = 130


def sampling_markdown(results: SamplingResults) -> str:
    """Both tables, as documents show them."""
    lines = [
        *_asked(results),
        "",
        "| M | hidden units | reached | to equal log-loss, s | problems sampled | a problem, ms | a step, s "
        "| test log-loss | over the closed form | pairwise |",
        "| --: | :-- | :-- | --: | --: | --: | --: | --: | --: | --: |",
        *(_row(row, results) for row in sorted(results.trainings, key=lambda row: row.hidden)),
        "",
        "| sampler | effort | seconds | total variation | error of a mean | error of the energy |",
        "| :-- | --: | --: | --: | --: | --: |",
        *map(_error_row, results.errors),
    ]
    return "\n".join(lines) + "\n"


def _asked(results: SamplingResults) -> list[str]:
    seeds = f"{results.seeds} seed{'s' * (results.seeds > 1)}"
    train, validation, test = results.pairs
    sentences = (
        f"{results.reward_model}, {results.prompts:,} prompts, {seeds}; in the first, {train:,} pairs train a machine",
        f"for {results.epochs} epochs, {validation:,} validate it, {test:,} test it. Equal log-loss is what",
        f"{100 * results.share:.0f}% of the closed form's gain on validation pairs come to, of the same size and seed,",
        "looked at every five steps and judged alike for all; where the closed form gains nothing there is no target.",
        f"Seconds are processor time of one thread. A training ends after {results.budget:g} s, and is left out where",
        f"{FEWEST_STEPS} steps would take longer. A time is given where all seeds with a target reach it. Times,",
        "problems and errors are geometric means over seeds with 95% intervals; log-losses and accuracies are means",
        "over seeds at the best validation log-loss, with 95% intervals by prompt.",
    )
    return [f"`{results.command}`:", *textwrap.wrap(" ".join(sentences), WIDTH)]


def _row(row: SamplingRow, results: SamplingResults) -> str:
    missed = f"{row.targets - row.reached} missed" + (f", > {results.budget:g} s" if row.cut else "")
    cells = (
        str(row.hidden),
        row.means,
        f"{row.reached} of {row.targets}" if row.trained else "left out",
        _over_seeds(row.seconds, "{:.2f}".format) if row.seconds or not row.trained else missed,
        _over_seeds(row.problems, "{:,.0f}".format) if row.problem_seconds else ABSENT,
        _over_seeds(row.problem_seconds, lambda seconds: f"{1000 * seconds:.2f}"),
        _over_seeds(row.step_seconds, "{:.3f}".format),
        _estimate(row.nll, "{:.4f}".format),
        _estimate(row.nll_over, "{:+.4f}".format) if row.means != CLOSED_FORM else ABSENT,
        percent_interval(row.accuracy.mean, row.accuracy.ci_low, row.accuracy.ci_high) if row.accuracy else ABSENT,
    )
    return f"| {' | '.join(cells)} |"


def _error_row(row: SamplerErrorRow) -> str:
    cells = (
        row.sampler,
        ABSENT if row.effort is None else str(row.effort),
        _over_seeds(row.seconds, "{:.3g}".format),
        *(_over_seeds(part, "{:.3f}".format) for part in (row.total_variation, row.mean_error, row.energy_error)),
    )
    return f"| {' | '.join(cells)} |"


def _over_seeds(value: OverSeeds | None, number: Callable[[float], str]) -> str:
    if value is None:
        return ABSENT
    if value.ci_low is None or value.ci_high is None:
        return number(value.mean)
    return f"{number(value.mean)} [{number(value.ci_low)}, {number(value.ci_high)}]"


def _estimate(value: Estimate | None, number: Callable[[float], str]) -> str:
    return ABSENT if value is None else f"{number(value.mean)} [{number(value.ci_low)}, {number(value.ci_high)}]"
