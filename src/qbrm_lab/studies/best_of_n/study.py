"""The study of best-of-n as a command runs it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.report.plots.best_of_n import best_of_n_figure
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.results.study_rows import BestOfNResults, BestOfNSummary, CandidateFile, ChosenLevel
from qbrm_lab.studies.best_of_n.one_seed import SeedOutcome, SeedStudy
from qbrm_lab.studies.best_of_n.page import Run, best_of_n_markdown, picture_name
from qbrm_lab.studies.best_of_n.settings import Asked, Prepared, prepare
from qbrm_lab.studies.best_of_n.worth import rows_of_seed, rows_over_seeds, sizes_of
from qbrm_lab.studies.cache import STUDY_VERSION
from qbrm_lab.studies.json_files import write_json

RESULTS_FILE, SUMMARY_FILE, PAGE_FILE = "best_of_n.json", "summary.json", "best-of-n.md"


def study_best_of_n(settings: ComparisonSettings, asked: Asked, reporter: Reporter) -> Path:
    """Measure what the candidate that each method chooses among n is worth to the judge.

    Writes best_of_n.json, summary.json, best-of-n.md and a plot per file of candidates to `settings.out`, where
    features, training states and what is finished are kept: the same call continues where an earlier one stopped.

    Returns:
        The path of best-of-n.md.

    Raises:
        InputError: if something given is not usable.
        TrainingError: if a training cannot go on.
        WorkerError: if a process that runs a seed is killed.
    """
    prepared = prepare(settings, asked, reporter)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    outcomes = list(each_seed(partial(_run_seed, prepared), seeds, settings.workers, reporter, "best-of-n"))
    write_json(settings.out / RESULTS_FILE, _results(prepared, outcomes))
    summary = _summary(prepared, outcomes)
    write_json(settings.out / SUMMARY_FILE, summary)
    for file in summary.files:
        rows = [row for row in summary.rows if row.file == file.name]
        write_atomically(settings.out / picture_name(file.name), png_bytes(best_of_n_figure(rows)))
    path = settings.out / PAGE_FILE
    write_atomically(path, best_of_n_markdown([Run(summary)]).encode())
    return path


def _run_seed(prepared: Prepared, seed: int, reporter: Reporter) -> SeedOutcome:
    return SeedStudy(prepared, seed, reporter).run()


def _results(prepared: Prepared, outcomes: Sequence[SeedOutcome]) -> BestOfNResults:
    rows = [
        row
        for number, file in enumerate(prepared.files)
        for outcome in outcomes
        for row in rows_of_seed(file.name, outcome.seed, sizes_of(file.largest), outcome.of_file(number, file.name))
    ]
    return BestOfNResults(rows)


def _summary(prepared: Prepared, outcomes: Sequence[SeedOutcome]) -> BestOfNSummary:
    train_prompts, *file_prompts = prepared.whole
    files = [
        CandidateFile(
            name=file.name,
            prompts=len(file.preferences.prompt_ids),
            of_prompts=file_prompts[number],
            candidates=file.count,
            test_prompts=len(outcomes[0].prompts[number]),
            gold_pairs=sum(outcomes[0].gold_pairs[number]),
        )
        for number, file in enumerate(prepared.files)
    ]
    rows = [
        row
        for number, file in enumerate(prepared.files)
        for row in rows_over_seeds(
            file.name, sizes_of(file.largest), [outcome.of_file(number, file.name) for outcome in outcomes]
        )
    ]
    levels = [
        ChosenLevel(file=part.file, method=part.method, seed=outcome.seed, level=part.level)
        for outcome in outcomes
        for part in outcome.worth
        if part.level is not None
    ]
    return BestOfNSummary(
        command=prepared.settings.command,
        reward_model=prepared.model.identity.title,
        trained=prepared.came_trained,
        train=prepared.train.name,
        train_prompts=len(prepared.train.prompt_ids),
        train_of_prompts=train_prompts,
        train_pairs=prepared.train.pair_count.distinct,
        seeds=len(outcomes),
        files=files,
        rows=rows,
        levels=levels,
        version=STUDY_VERSION,
    )
