"""The plots of the page, drawn from what the study left."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from qbrm_lab.report.parts import parts
from qbrm_lab.report.plots import over_optimisation_figure
from qbrm_lab.report.plots.multiples import (
    calibration_panels,
    deviation_panels,
    difference_panels,
    risk_coverage_panels,
)
from qbrm_lab.report.plots.sampling import error_figure, gain_figure, time_figure
from qbrm_lab.studies.over_optimisation.study import AXIS
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.robustness import CANDIDATE

FOLDER = "results"
# More curves than these in a panel hide each other; the tables have all methods.
CURVES = ("base", "mlp", "mlp:gate", "mlp:ensemble=5", "gaussian", "ebrm", CANDIDATE)
SCORES = ("ebrm", "ebrm:exact", "rbm", "sqrbm", CANDIDATE)

SHOWN = {
    "differences": "Pairwise accuracy of every trained method over the base, by scenario",
    "differences-fine-tuned": "Pairwise accuracy of every trained method over the fine-tuned base, by scenario",
    "risk-coverage": "Accuracy over the share of pairs that are decided, by scenario",
    "deviation": "Wrong decisions by predicted deviation, by scenario",
    "calibration": "Share of right decisions by their confidence, by scenario",
    "over-optimisation": "Simulated gold against KL, by family of methods",
    "time-to-loss": "Training time to an equal log-loss by hidden units and sampler",
    "gain-by-size": "Log-loss over the closed form by hidden units and sampler",
    "error-by-time": "Sampler error by time",
}


def shown(name: str) -> str:
    """A plot in Markdown, with what it shows for those who do not see it."""
    return f"![{SHOWN[name]}]({FOLDER}/{name}.png)"


def draw(files: StudyFiles) -> Iterator[tuple[str, Figure]]:
    """The plots that there are data for, by name."""
    if files.robustness is not None:
        shown_parts = parts(files.robustness)
        yield "differences", difference_panels(shown_parts, "base")
        yield "risk-coverage", risk_coverage_panels(shown_parts, CURVES)
        yield "deviation", deviation_panels(shown_parts, SCORES)
        yield "calibration", calibration_panels(shown_parts, CURVES)
    if files.fine_tuned is not None:
        yield "differences-fine-tuned", difference_panels(parts(files.fine_tuned), "base")
    if files.over_optimisation is not None:
        yield "over-optimisation", over_optimisation_figure(files.over_optimisation.study.rows, AXIS)
    if files.sampling is not None:
        yield "time-to-loss", time_figure(files.sampling.trainings)
        yield "gain-by-size", gain_figure(files.sampling.trainings)
        yield "error-by-time", error_figure(files.sampling.errors)
