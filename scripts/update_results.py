"""Put the results of studies into docs/: their pages and the plots that the pages show.

    python scripts/update_results.py results=runs/language-models small-encoder=runs/study

Each argument is PAGE=RUN. ``results`` takes the folder of ``qbrm study language-models ... --out RUN``; studies of the
same reward models that are in folders beside, RUN/harden, RUN/published, RUN/grpo, are on the page in short, and their
own pages become docs/harden.md and so on. ``small-encoder`` takes that of ``qbrm study ... --out RUN``.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from qbrm.durable import make_folder
from qbrm_lab.studies import page
from qbrm_lab.studies.language_models import page as language_models
from qbrm_lab.studies.language_models.beside import OWN_PAGES

DOCS = Path(__file__).parent.parent / "docs"
WRITERS = {"results": language_models.write_page, "small-encoder": page.write_page}
PICTURE = re.compile(r"\]\(([\w/-]+\.png)\)")


def update(name: str, run: Path, docs: Path) -> None:
    """Write the run's page again and replace the page and plots of docs/."""
    shutil.rmtree(docs / name, ignore_errors=True)
    _copy(WRITERS[name](run), docs, name)
    for subject in OWN_PAGES if name == "results" else ():
        own = run / subject / f"{subject}.md"
        if own.exists():
            _copy(own, docs, subject)


def _copy(source: Path, docs: Path, name: str) -> None:
    """A page with its plots, which go to a folder of its name."""
    pictures = PICTURE.findall(source.read_text())
    for picture in pictures:
        make_folder(docs / name)
        shutil.copyfile(source.parent / picture, docs / name / Path(picture).name)
    (docs / f"{name}.md").write_text(PICTURE.sub(lambda link: f"]({name}/{Path(link[1]).name})", source.read_text()))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, run = argument.split("=", 1)
        update(name, Path(run), DOCS)
