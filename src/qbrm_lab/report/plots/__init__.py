"""The plots of a comparison: one file each, and the list of them."""

from qbrm_lab.report.plots.accuracy import accuracy_figure
from qbrm_lab.report.plots.calibration import calibration_figure
from qbrm_lab.report.plots.categories import category_figure
from qbrm_lab.report.plots.densities import density_figure
from qbrm_lab.report.plots.deviation import deviation_figure
from qbrm_lab.report.plots.over_optimisation import over_optimisation_figure
from qbrm_lab.report.plots.risk_coverage import risk_coverage_figure
from qbrm_lab.report.plots.training import training_figure

__all__ = [
    "accuracy_figure",
    "calibration_figure",
    "category_figure",
    "density_figure",
    "deviation_figure",
    "over_optimisation_figure",
    "risk_coverage_figure",
    "training_figure",
]
