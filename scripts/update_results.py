"""Put a study's results into docs/: its page and the plots that the page shows.

    python scripts/update_results.py runs/study

RUN is the folder of ``qbrm study ... --out RUN``; RUN/results.md and RUN/results/*.png become docs/results.md and
docs/results/*.png, unchanged.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from qbrm_lab.studies.page import write_page

DOCS = Path(__file__).parent.parent / "docs"


def update(run: Path, docs: Path) -> None:
    """Write the run's page again and replace the page and plots of docs/."""
    page = write_page(run)
    shutil.copyfile(page, docs / page.name)
    shutil.rmtree(docs / "results", ignore_errors=True)
    shutil.copytree(run / "results", docs / "results", ignore=shutil.ignore_patterns("SHA256SUMS"))


if __name__ == "__main__":
    update(Path(sys.argv[1]), DOCS)
