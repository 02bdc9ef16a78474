"""Which plots a part has, what they are called, and how they become PNGs."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from qbrm_lab.report.categories import OVERALL
from qbrm_lab.report.parts import Part
from qbrm_lab.report.plots.accuracy import accuracy_figure, accuracy_rows
from qbrm_lab.report.plots.appearance import PHONE_WIDTH
from qbrm_lab.report.plots.calibration import calibration_figure
from qbrm_lab.report.plots.categories import category_figure
from qbrm_lab.report.plots.densities import density_figure
from qbrm_lab.report.plots.deviation import deviation_figure
from qbrm_lab.report.plots.png import DOTS_PER_INCH, png_bytes
from qbrm_lab.report.plots.probes import Probed, probes_figure
from qbrm_lab.report.plots.risk_coverage import risk_coverage_figure
from qbrm_lab.report.plots.training import trained_scores, training_figure
from qbrm_lab.results import Results


class Plot(NamedTuple):
    """A kind of plot: its file's name without ``.png``, how the report shows it, and what it is drawn from."""

    stem: str
    heading: str
    caption: str
    draw: Callable[[Any], Figure]
    possible: Callable[[Any], bool]


class Picture(NamedTuple):
    """A plot of one part, drawn; its size is in pixels."""

    plot: Plot
    file_name: str
    png: bytes
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether a phone has to scroll to read it."""
        return self.width > DOTS_PER_INCH * PHONE_WIDTH

    @property
    def source(self) -> str:
        """The PNG as a data URI."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"


# What the report opens with.
OPENING = Plot(
    "accuracy",
    "Accuracy",
    "Accuracy on the test by method, mean over seeds, with its 95% interval by bootstrap over prompts. Intervals of "
    "two methods may overlap although one is better: they answer the same prompts, and the paired difference decides.",
    accuracy_figure,
    lambda results: any(accuracy_rows(results, row.set) for row in results.summary),
)
PLOTS = (
    OPENING,
    Plot(
        "training",
        "Training",
        "Training loss (each objective has its own scale) and accuracy on the validation prompts, epoch by "
        "epoch; of an ensemble, the first member's. Members with validation prompts of their own show no accuracy.",
        training_figure,
        lambda results: bool(trained_scores(results)),
    ),
    Plot(
        "calibration",
        "Calibration",
        "Decisions grouped by confidence: on the dotted line, as many are right as the method believes. Below, how "
        "many decisions each group has.",
        calibration_figure,
        lambda results: bool(results.reliability),
    ),
    Plot(
        "risk-coverage",
        "Accuracy when abstaining",
        "Accuracy over the share of pairs of which the method is most certain, the rest left undecided: a method that "
        "knows when it does not know rises to the left. AURC is the area under the error rate; less is better.",
        risk_coverage_figure,
        lambda results: bool(results.risk_coverage),
    ),
    Plot(
        "deviation",
        "Predicted deviation and error",
        "Pairs grouped by the standard deviation that the score predicts for their difference of rewards, a tenth "
        "each: how many of each group are decided wrongly. AUROC is the probability that a wrong decision has a "
        "greater deviation than a right one; 0.5 is chance.",
        deviation_figure,
        lambda results: bool(results.deviation),
    ),
    Plot(
        "densities",
        "Reward distributions",
        "p(r | e) for the responses of a few prompts.",
        density_figure,
        lambda results: bool(results.densities),
    ),
    Plot(
        "categories",
        "Accuracy by category",
        "Accuracy in each category, mean over seeds, from the base's best to its worst; the grey band is the base's "
        "95% interval.",
        category_figure,
        lambda results: any(row.category not in OVERALL for row in results.rows),
    ),
)
PROBES = Plot(
    "probes",
    "Probes",
    "The share of hacks that win, with its 95% interval (Wilson), by the base reward and by the refined one. Above the "
    "rule are probes whose hacks are worse than what they were made of and must lose, below it those that only look "
    "different and must not gain.",
    probes_figure,
    lambda probed: bool(probed.shown),
)


def pictures(part: Part, number: int | None = None) -> list[Picture]:
    """Draw the plots that a part has data for; `number` goes into the file names when there are several parts."""
    suffix = "" if number is None else f"-{number}-{_slug(part.scenario)}-{_slug(part.test)}"
    return [_picture(plot, part.results, f"{plot.stem}{suffix}.png") for plot in PLOTS if plot.possible(part.results)]


def probes_picture(probed: Probed) -> Picture:
    """The plot of probes."""
    return _picture(PROBES, probed, f"{PROBES.stem}.png")


def _picture(plot: Plot, drawn_from: Results | Probed, file_name: str) -> Picture:
    figure = plot.draw(drawn_from)
    width, height = (round(DOTS_PER_INCH * inches) for inches in figure.get_size_inches())
    return Picture(plot, file_name, png_bytes(figure), width, height)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
