"""The study of over-optimisation as a command runs it: a table and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.features import FeatureTable
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare
from qbrm_lab.report.plots import over_optimisation_figure
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.over_optimisation.measure import (
    OverOptimisation,
    OverOptimisationSettings,
    over_optimisation,
)
from qbrm_lab.studies.over_optimisation.proxies import PROXIES

AXIS = "gold reward, deviations of the pool"
SLOW = ("ebrm",)
OVER_OPTIMISATION_FILE, PICTURE = "over-optimisation.json", "over-optimisation.png"


@dataclass(frozen=True)
class OverOptimisationResults:
    """Content of over-optimisation.json."""

    command: str
    study: OverOptimisation


def study_over_optimisation(settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Measure best-of-n against simulated gold.

    Writes over-optimisation.json, over-optimisation.md and a plot to `settings.out`, where finished seeds are kept.
    With `quick`, EBRM is left out. Arguments and errors are those of
    :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of over-optimisation.md.
    """
    sources = prepare(settings, reporter).sources
    table = FeatureTable.open(settings.out / "features")
    test = next(iter(sources.tests.values()))
    asked = OverOptimisationSettings(
        methods=tuple(name for name in PROXIES if not (quick and name in SLOW)),
        seeds=tuple(range(settings.seed, settings.seed + settings.seeds)),
        workers=settings.workers,
    )
    study = over_optimisation(sources.train, test, table, settings.out, reporter, asked)
    write_atomically(settings.out / PICTURE, png_bytes(over_optimisation_figure(study.rows, AXIS)))
    write_json(settings.out / OVER_OPTIMISATION_FILE, OverOptimisationResults(settings.command, study))
    path = settings.out / "over-optimisation.md"
    write_atomically(path, peaks_table(study).encode())
    return path


def peaks_table(study: OverOptimisation) -> str:
    """Where the curve of every method is highest and what is lost after that, as documents show it."""
    lines = [
        f"Simulated gold, scenario {study.scenario}:",
        "",
        "| method | highest at n | gold there | gold at the largest n | lost since | over base at the largest n |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for row in study.peaks:
        over = row.over_base
        against = "-" if over is None else f"{over:+.2f} [{row.over_base_low:+.2f}, {row.over_base_high:+.2f}]"
        lines.append(
            f"| {row.method} | {row.peak_n:,} | {row.peak_gold:.2f} | {row.last_gold:.2f} | "
            f"{row.loss:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}] | {against} |"
        )
    return "\n".join(lines) + "\n"
