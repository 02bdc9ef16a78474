"""Coverage of a Boltzmann score's intervals where the true reward is known: in a simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.results.study_rows import CoverageRow
from qbrm_lab.studies.cache import cached
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.simulation import coverage_rows

COVERAGE_FILE = "coverage.json"


@dataclass(frozen=True)
class CoverageResults:
    """Content of coverage.json."""

    command: str
    rows: list[CoverageRow]


def study_coverage(settings: ComparisonSettings, reporter: Reporter) -> Path:
    """Fit machines to simulated rewards and preferences, and count how often their intervals contain the truth.

    There is one simulated world for every seed. Writes coverage.json to `settings.out`, where finished seeds are kept.
    Arguments and errors are those of :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of
    coverage.json.
    """
    rows = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        reporter.status(f"coverage on simulated rewards, seed {seed}")
        path = settings.out / "coverage" / f"seed-{seed}.json"
        rows += cached(path, {"seed": seed}, list[CoverageRow], partial(coverage_rows, seed))
    reporter.status(None)
    path = settings.out / COVERAGE_FILE
    write_json(path, CoverageResults(settings.command, rows))
    return path
