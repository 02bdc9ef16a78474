"""What a study left in its folder, as the page reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeVar

from qbrm_lab.results import RESULTS_FILE, Results, read_results
from qbrm_lab.results.study_rows import SamplingResults
from qbrm_lab.studies.coverage import COVERAGE_FILE, CoverageResults
from qbrm_lab.studies.fine_tuned import FOLDER as FINE_TUNED
from qbrm_lab.studies.journal import Call, read_journal
from qbrm_lab.studies.json_files import read_json
from qbrm_lab.studies.over_optimisation.study import OVER_OPTIMISATION_FILE, OverOptimisationResults
from qbrm_lab.studies.sampling import SAMPLING_FILE

SAMPLING = "sampling"
Content = TypeVar("Content")


class StudyFiles(NamedTuple):
    """All that the page may say; None for what was not run.

    Attributes:
        robustness: all scenarios on the embedded base.
        fine_tuned: all scenarios on the fine-tuned base.
        over_optimisation: content of over-optimisation.json.
        coverage: content of coverage.json.
        sampling: content of sampling/sampling.json.
        calls: what the parts took.
    """

    robustness: Results | None = None
    fine_tuned: Results | None = None
    over_optimisation: OverOptimisationResults | None = None
    coverage: CoverageResults | None = None
    sampling: SamplingResults | None = None
    calls: tuple[Call, ...] = ()


def read_files(folder: Path) -> StudyFiles:
    """Read what is there.

    Raises:
        InputError: if a file is not what its name says.
    """
    return StudyFiles(
        _results(folder),
        _results(folder / FINE_TUNED),
        _content(folder / OVER_OPTIMISATION_FILE, OverOptimisationResults),
        _content(folder / COVERAGE_FILE, CoverageResults),
        _content(folder / SAMPLING / SAMPLING_FILE, SamplingResults),
        tuple(read_journal(folder)),
    )


def _results(folder: Path) -> Results | None:
    return read_results(folder) if (folder / RESULTS_FILE).exists() else None


def _content(path: Path, kind: type[Content]) -> Content | None:
    return read_json(path, kind) if path.exists() else None
