"""results.md: what a study asked, how it measured and what came out, from the study's own files alone."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from qbrm.durable import make_folder, write_atomically
from qbrm.tables.numbers import percent
from qbrm_lab.methods import words_of
from qbrm_lab.report.comparison import extent
from qbrm_lab.report.parts import SET_NAMES, methods_of, parts, sets_of
from qbrm_lab.report.plots.multiples import FEWEST_DECISIONS
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.scenarios import VALIDATION_SHARE, VARIANTS
from qbrm_lab.studies.over_optimisation.measure import OverOptimisationSettings
from qbrm_lab.studies.over_optimisation.study import peaks_table
from qbrm_lab.studies.page import failures, tables, words
from qbrm_lab.studies.page.files import StudyFiles, read_files
from qbrm_lab.studies.page.html import page_html
from qbrm_lab.studies.page.limits import study_targets
from qbrm_lab.studies.page.pictures import FOLDER, draw, shown
from qbrm_lab.studies.page.summary import summary
from qbrm_lab.studies.robustness import CANDIDATE, ONLY_IN, TRIED_CONFIGURATIONS, targets, targets_table
from qbrm_lab.studies.sampling_page import sampling_markdown

PAGE_FILE = "results.md"
HTML_FILE = "results.html"
TEMPLATE = "results.md.jinja"


def write_page(folder: Path) -> Path:
    """Write results.md into a study's folder, its plots into results/, and results.html, which has both.

    Returns:
        The path of results.md.

    Raises:
        InputError: if the folder cannot be written, or a results.json in it is not one.
    """
    files = read_files(folder)
    pictures = folder / FOLDER
    make_folder(pictures)
    for name, figure in draw(files):
        write_atomically(pictures / f"{name}.png", png_bytes(figure))
    path, text = folder / PAGE_FILE, page(files)
    write_atomically(folder / HTML_FILE, page_html(text, folder).encode())
    write_atomically(path, text.encode())
    return path


def page(files: StudyFiles) -> str:
    """The page in Markdown: its sentences are the template's, its numbers those of `files`."""
    environment = Environment(
        loader=PackageLoader("qbrm_lab.studies", "page"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    text = environment.get_template(TEMPLATE).render(
        files=files,
        tables=tables,
        words=words,
        failures=failures,
        about=files.robustness or files.fine_tuned,
        summary=summary(files),
        judged=[
            ("", files.robustness, study_targets(files)),
            (" with the fine-tuned base", files.fine_tuned, targets(files.fine_tuned) if files.fine_tuned else []),
        ],
        candidate=CANDIDATE,
        only_in=ONLY_IN,
        tried=TRIED_CONFIGURATIONS,
        variants=VARIANTS,
        words_of=words_of,
        validation_share=VALIDATION_SHARE,
        fewest_decisions=FEWEST_DECISIONS,
        extent=extent,
        SET_NAMES=SET_NAMES,
        methods_of=methods_of,
        parts=parts,
        peaks_table=peaks_table,
        percent=percent,
        prompts=OverOptimisationSettings().prompts,
        sampling_markdown=sampling_markdown,
        sets_of=sets_of,
        shown=shown,
        targets_table=targets_table,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
