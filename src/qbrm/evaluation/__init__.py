"""Accuracy, calibration, what uncertainty is worth, and the intervals of all that."""

from qbrm.evaluation.bootstrap import Interval, PromptBootstrap, interval, means
from qbrm.evaluation.calibration import Decisions, decisions, expected_calibration_error, reliability
from qbrm.evaluation.coverage import Coverage, interval_coverage
from qbrm.evaluation.deviation import DeviationBins, deviation_bins, error_auroc, resampled_aurocs
from qbrm.evaluation.risk_coverage import area, curve_points, oracle_risk, resampled_areas, selective_risk

__all__ = [
    "Coverage",
    "Decisions",
    "DeviationBins",
    "Interval",
    "PromptBootstrap",
    "area",
    "curve_points",
    "decisions",
    "deviation_bins",
    "error_auroc",
    "expected_calibration_error",
    "interval",
    "interval_coverage",
    "means",
    "oracle_risk",
    "reliability",
    "resampled_areas",
    "resampled_aurocs",
    "selective_risk",
]
