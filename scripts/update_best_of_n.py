"""Write docs/best-of-n.md and its plots, a section for every reward model.

    python scripts/update_best_of_n.py runs/best-of-n/minilm runs/best-of-n/smollm2

Each argument is the folder of ``qbrm study best-of-n ... --out RUN``; its name is that of the folder of its plots in
docs/best-of-n/.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from qbrm_lab.results.study_rows import BestOfNSummary
from qbrm_lab.studies.best_of_n.page import Run, best_of_n_markdown, picture_name
from qbrm_lab.studies.best_of_n.study import PAGE_FILE, SUMMARY_FILE
from qbrm_lab.studies.json_files import read_json

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = "best-of-n"


def update(folders: Sequence[Path], docs: Path) -> None:
    """Write the page of all runs, and copy their plots, in place of those that were there."""
    shutil.rmtree(docs / PICTURES, ignore_errors=True)
    runs = [Run(read_json(folder / SUMMARY_FILE, BestOfNSummary), f"{PICTURES}/{folder.name}") for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        (docs / run.folder).mkdir(parents=True)
        for file in run.summary.files:
            shutil.copyfile(folder / picture_name(file.name), docs / run.folder / picture_name(file.name))
    (docs / PAGE_FILE).write_text(best_of_n_markdown(runs))


if __name__ == "__main__":
    update([Path(name) for name in sys.argv[1:]], DOCS)
