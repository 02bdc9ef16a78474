"""What a study left in its folder, as the page reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from qbrm_lab.report import Results, read_results
from qbrm_lab.report.results import RESULTS_FILE
from qbrm_lab.studies.coverage import COVERAGE_FILE
from qbrm_lab.studies.fine_tuned import FOLDER as FINE_TUNED
from qbrm_lab.studies.journal import Call, read_journal

SAMPLING = "sampling"


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
    over_optimisation: dict[str, Any] | None = None
    coverage: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    calls: tuple[Call, ...] = ()


def read_files(folder: Path) -> StudyFiles:
    """Read what is there.

    Raises:
        InputError: if a results.json is not one.
    """
    return StudyFiles(
        _results(folder),
        _results(folder / FINE_TUNED),
        _content(folder / "over-optimisation.json"),
        _content(folder / COVERAGE_FILE),
        _content(folder / SAMPLING / "sampling.json"),
        tuple(read_journal(folder)),
    )


def _results(folder: Path) -> Results | None:
    return read_results(folder) if (folder / RESULTS_FILE).exists() else None


def _content(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content
