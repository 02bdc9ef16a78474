"""Coverage of a Boltzmann score's intervals where the true reward is known: in a simulated world."""

from __future__ import annotations

import json
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.simulation import coverage_rows
from qbrm_lab.studies.cache import cached, code_digest

COVERAGE_FILE = "coverage.json"


def study_coverage(settings: ComparisonSettings, reporter: Reporter) -> Path:
    """Fit machines to simulated rewards and preferences, and count how often their intervals contain the truth.

    Writes coverage.json to `settings.out`; finished seeds are kept there.

    Args:
        settings: folder and seeds; one simulated world for each of them.
        reporter: told what is going on.

    Returns:
        The path of coverage.json.

    Raises:
        InputError: if the folder cannot be written.
    """
    rows = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        reporter.status(f"coverage on simulated rewards, seed {seed}")
        asked = {"seed": seed, "code": code_digest()}
        path = settings.out / "coverage" / f"seed-{seed}.json"
        rows += cached(path, asked, lambda seed=seed: {"rows": coverage_rows(seed)})["rows"]  # type: ignore[misc]
    reporter.status(None)
    path = settings.out / COVERAGE_FILE
    content = {"schema": 1, "command": settings.command, "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return path
