"""What sampling the hidden spins costs and buys: accuracy against size, sampler by sampler, and error against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.energies import CoupledBoltzmannMachine
from qbrm.energies.qbm import EVALUATION_SAMPLES
from qbrm.features import FeatureTable
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.tables.numbers import percent_interval
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare, run_scenario
from qbrm_lab.comparison.records import results_of
from qbrm_lab.methods import folder_name
from qbrm_lab.report.comparison import mean_seconds, timings_of
from qbrm_lab.report.parts import summary_row
from qbrm_lab.report.plots.gallery import png_bytes
from qbrm_lab.report.plots.sampling import error_figure, size_figure
from qbrm_lab.results import Results, write_results
from qbrm_lab.results.rows import Stage
from qbrm_lab.results.study_rows import SamplerErrorRow, SizeRow
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.sampler_error import sampler_errors

SAMPLING_FILE = "sampling.json"
SCENARIO = "fresh"
EXACT_SUM = "sum over all states"
CLOSED_FORM = "closed form"
PROBLEMS = 32
STAGES: tuple[Stage, ...] = ("train", "refine")


@dataclass(frozen=True)
class SamplingResults:
    """Content of sampling.json."""

    scores: list[SizeRow]
    samplers: list[SamplerErrorRow]


class Variant(NamedTuple):
    """A Boltzmann score of one size, and how its hidden units are summed over.

    Attributes:
        score: its method.
        hidden: hidden units M.
        sampler: its name in `SAMPLERS`; None for no sampling.
    """

    score: str
    hidden: int
    sampler: str | None = None

    @property
    def name(self) -> str:
        """The method with its options."""
        return f"{self.score}:hidden={self.hidden}{f',sampler={self.sampler}' if self.sampler else ''}"

    @property
    def means(self) -> str:
        """How the hidden units are summed over, in words."""
        return self.sampler or (EXACT_SUM if self.score == "qbm" else CLOSED_FORM)


MEASURED_ON = Variant("qbm", 12)
VARIANTS = (
    *(Variant(score, hidden) for score in ("rbm", "sqrbm") for hidden in (12, 16, 32, 64, 128)),
    MEASURED_ON,
    Variant("qbm", 16, "exact"),
    *(Variant("qbm", hidden, "gibbs") for hidden in (12, 16, 32, 64, 128)),
    *(Variant("qbm", 12, sampler) for sampler in ("annealing", "kaiwu-gibbs", "descent")),
)


def study_sampling(settings: ComparisonSettings, reporter: Reporter) -> Path:
    """Train the same score with every sampler and size, and compare every sampler with enumeration.

    Writes results.json, as a comparison does, sampling.json, two plots and sampling.md to `settings.out`. Arguments and
    errors are those of :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of sampling.md.
    """
    prepared = prepare(settings, reporter)
    names = "base", *(variant.name for variant in VARIANTS)
    methods = replace(settings, methods=names).selected_methods()
    tables = run_scenario(prepared, SCENARIO, methods, reporter).tables()
    results = results_of([tables], settings.command, prepared.sources, [prepared.features])
    write_results(results, settings.out)
    reporter.status("samplers against enumeration")
    errors = _errors(prepared)
    reporter.status(None)
    return _write(settings.out, results, errors)


def _errors(prepared: Prepared) -> list[SamplerErrorRow]:
    """On the hidden problems that the first seed's trained score has for test responses."""
    settings = prepared.settings
    label = f"{folder_name(MEASURED_ON.name)}-{SCENARIO}-seed-{settings.seed}"
    score = EnergyRewardModel.from_pretrained(settings.out / "models" / label).energy_score
    assert isinstance(score, CoupledBoltzmannMachine)
    test = next(iter(prepared.sources.tests.values()))
    keys = list(test.responses())[:: max(1, len(test.responses()) // PROBLEMS)][:PROBLEMS]
    embedded = FeatureTable.open(settings.out / "features" / f"{SCENARIO}-seed-{settings.seed}").rows(keys)
    assert embedded.reward is not None
    with torch.no_grad():
        clamped = score.clamp(torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward))
        return sampler_errors(score.hidden_problem(clamped), settings.seed)


def _write(folder: Path, results: Results, errors: list[SamplerErrorRow]) -> Path:
    scores = [_score(results, variant) for variant in VARIANTS]
    write_json(folder / SAMPLING_FILE, SamplingResults(scores, errors))
    write_atomically(folder / "accuracy-by-size.png", png_bytes(size_figure(scores)))
    write_atomically(folder / "error-by-time.png", png_bytes(error_figure(errors)))
    path = folder / "sampling.md"
    write_atomically(path, sampling_markdown(scores, errors).encode())
    return path


def _score(results: Results, variant: Variant) -> SizeRow:
    """A variant's accuracy on both sets, its log-loss and its cost."""
    pairwise: Any = summary_row(results, variant.name, "pairwise")
    bon: Any = summary_row(results, variant.name, "bon")
    seconds: Any = {stage: mean_seconds(timings_of(results.timings, variant.name, stage)) for stage in STAGES}
    return SizeRow(
        score=variant.score,
        hidden=variant.hidden,
        sampler=variant.means,
        pairwise=(pairwise.accuracy, pairwise.ci_low, pairwise.ci_high),
        bon=(bon.accuracy, bon.ci_low, bon.ci_high),
        nll=pairwise.nll,
        sampling=pairwise.sampling,
        train_seconds=seconds["train"],
        refine_seconds=seconds["refine"],
    )


def sampling_markdown(scores: Sequence[SizeRow], errors: Sequence[SamplerErrorRow]) -> str:
    """Both tables, as documents show them."""
    lines = [
        "| score | M | hidden units | pairwise | best-of-n | log-loss | effective states | train | refine test |",
        "| :-- | --: | :-- | --: | --: | --: | --: | --: | --: |",
        *map(_score_line, scores),
        "",
        "| sampler | effort | seconds | total variation | error of a mean | error of the energy |",
        "| :-- | --: | --: | --: | --: | --: |",
        *map(_error_line, errors),
    ]
    return "\n".join(lines) + "\n"


def _score_line(row: SizeRow) -> str:
    sampling = row.sampling
    error = f" ±{100 * sampling.accuracy_error:.1f}" if sampling else ""
    loss_error = f" ±{sampling.nll_error:.4f}" if sampling else ""
    pairwise, bon = (percent_interval(*numbers) for numbers in (row.pairwise, row.bon))
    effective = f"{min(sampling.effective_samples, EVALUATION_SAMPLES):.0f}" if sampling else "-"
    return (
        f"| {row.score} | {row.hidden} | {row.sampler} | {pairwise}{error} | {bon} | "
        f"{row.nll:.4f}{loss_error} | {effective} | {row.train_seconds:.1f} s | {row.refine_seconds:.2f} s |"
    )


def _error_line(row: SamplerErrorRow) -> str:
    effort = "-" if row.effort is None else str(row.effort)
    return (
        f"| {row.sampler} | {effort} | {row.seconds:.3f} | {row.total_variation:.3f} | "
        f"{row.mean_error:.4f} | {row.energy_error:.3f} |"
    )
