"""The plots of the page, drawn from what the study left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.figure import Figure

from qbrm.report import Results
from qbrm.report.parts import parts
from qbrm.report.plots import over_optimisation_figure
from qbrm.report.plots.multiples import (
    calibration_panels,
    deviation_panels,
    difference_panels,
    risk_coverage_panels,
)
from qbrm.report.plots.sampling import error_figure, size_figure
from qbrm.study.choosing_harder import GOLDS
from qbrm.study.page.files import StudyFiles
from qbrm.study.robustness import CANDIDATE

FOLDER = "results"
# More curves than these in a panel hide each other; the tables have all methods.
CURVES = ("base", "mlp", "mlp-gate", "mlp-ensemble", "gaussian", "ebrm", CANDIDATE)
SCORES = ("ebrm", "ebrm-exact", "rbm", "sqrbm", CANDIDATE)


class Plot(NamedTuple):
    """A plot of the page.

    Attributes:
        file: its name.
        alt: what it shows, for those who do not see it.
    """

    file: str
    alt: str


DIFFERENCES = Plot("differences.png", "Pairwise accuracy of every trained method over the base, by scenario")
FINE_TUNED_DIFFERENCES = Plot("differences-fine-tuned.png", "The same over the fine-tuned base")
RISK_COVERAGE = Plot("risk-coverage.png", "Accuracy over the share of pairs that are decided, by scenario")
DEVIATION = Plot("deviation.png", "Wrong decisions by predicted deviation, by scenario")
CALIBRATION = Plot("calibration.png", "Share of right decisions by their confidence, by scenario")
OVER_OPTIMISATION = {gold: Plot(f"over-optimisation-{gold}.png", f"Gold from {gold} against KL") for gold in GOLDS}
SIZE, ERROR = SAMPLING_PICTURES = (
    Plot("accuracy-by-size.png", "Accuracy and log-loss by hidden units and sampler"),
    Plot("error-by-time.png", "Sampler error by time"),
)


def shown(plot: Plot) -> str:
    """The plot in Markdown."""
    return f"![{plot.alt}]({FOLDER}/{plot.file})"


def draw(files: StudyFiles) -> Iterator[tuple[Plot, Figure]]:
    """The plots that there are data for."""
    if files.robustness is not None:
        yield DIFFERENCES, _differences(files.robustness)
        found = parts(files.robustness)
        yield RISK_COVERAGE, risk_coverage_panels(found, CURVES)
        yield DEVIATION, deviation_panels(found, SCORES)
        yield CALIBRATION, calibration_panels(found, CURVES)
    if files.fine_tuned is not None:
        yield FINE_TUNED_DIFFERENCES, _differences(files.fine_tuned)
    for study in files.over_optimisation["studies"] if files.over_optimisation is not None else ():
        gold = study["gold_from"]
        yield OVER_OPTIMISATION[gold], over_optimisation_figure(study["rows"], GOLDS[gold])
    if files.sampling is not None:
        yield SIZE, size_figure(files.sampling["scores"])
        yield ERROR, error_figure(files.sampling["samplers"])


def _differences(results: Results) -> Figure:
    return difference_panels(parts(results), "base")
