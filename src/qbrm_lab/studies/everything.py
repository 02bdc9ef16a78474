"""All of a study with one command: its parts one after the other, then the page that says what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.durable import one_writer
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.studies.coverage import study_coverage
from qbrm_lab.studies.fine_tuned import study_fine_tuned
from qbrm_lab.studies.journal import noted
from qbrm_lab.studies.over_optimisation.study import study_over_optimisation
from qbrm_lab.studies.page import write_page
from qbrm_lab.studies.page.times import clock
from qbrm_lab.studies.robustness import study_robustness

Part = Callable[[ComparisonSettings, bool, Reporter], Path]


PARTS: dict[str, Part] = {
    "robustness": study_robustness,
    "over-optimisation": study_over_optimisation,
    "coverage": lambda settings, quick, reporter: study_coverage(settings, reporter),
    "fine-tuned": lambda settings, quick, reporter: study_fine_tuned(settings, reporter),
}
QUICK_LEFT_OUT = ("fine-tuned",)


def study_everything(settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Run every part, and write results.md with its plots.

    All parts share the features, the training states and the folder `settings.out`. What is finished is kept there, so
    the same call continues where an earlier one stopped.

    Args:
        settings: source, folder, seeds and epochs; scenarios and methods are the study's own.
        quick: leave out the fine-tuned base, EBRM and what else takes long.
        reporter: shows progress.

    Returns:
        The path of results.md.

    Raises:
        InputError: if the source is not usable.
        TrainingError: if a training cannot go on.
        WorkerError: if a process that runs a seed is killed.
    """
    start = time.perf_counter()
    for name in PARTS:
        if quick and name in QUICK_LEFT_OUT:
            continue
        study_part(name, settings, quick, reporter)
        reporter.fact("elapsed", clock(time.perf_counter() - start))
    return write_page(settings.out)


def study_part(name: str, settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Run one of `PARTS`, and note what it took; the other arguments are those of :func:`study_everything`.

    Returns the path of what the part wrote. Raises InputError if another process studies in the same folder.
    """
    with one_writer(settings.out), noted(settings.out, name, settings.command):
        path = PARTS[name](settings, quick, reporter)
    reporter.fact(name, str(path))
    return path
