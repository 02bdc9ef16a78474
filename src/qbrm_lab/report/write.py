"""The files that a comparison leaves behind."""

from __future__ import annotations

from pathlib import Path

from qbrm.durable import write_atomically
from qbrm_lab.report.html import render_report
from qbrm_lab.report.parts import parts
from qbrm_lab.report.plots.gallery import pictures, probes_picture
from qbrm_lab.report.plots.probes import Probed
from qbrm_lab.results import Results, write_results

REPORT_FILE = "report.html"


def write_report(results: Results, folder: Path, probed: Probed | None = None) -> Path:
    """Write results.json, then the plots as PNGs, then report.html, each whole or not at all.

    With one scenario and test the plots are ``accuracy.png``, ``training.png``, ``calibration.png``,
    ``risk-coverage.png``, ``deviation.png``, ``densities.png`` and ``categories.png``; with several, the names go on
    with a number, the scenario and the test. A score that was probed adds ``probes.png``. Return the path of
    report.html.

    Raises:
        ValueError: if a number is NaN or infinite.
        InputError: if the folder cannot be written.
    """
    write_results(results, folder)
    shown = parts(results)
    numbers = [None] if len(shown) == 1 else range(1, len(shown) + 1)
    drawn = [pictures(part, number) for part, number in zip(shown, numbers, strict=True)]
    of_probes = None if probed is None else probes_picture(probed)
    for picture in (*(picture for of_part in drawn for picture in of_part), *filter(None, [of_probes])):
        write_atomically(folder / picture.file_name, picture.png)
    report = folder / REPORT_FILE
    write_atomically(report, render_report(results, drawn, probed, of_probes).encode())
    return report
