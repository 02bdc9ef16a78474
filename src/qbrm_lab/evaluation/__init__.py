"""What a method's uncertainty is worth: abstention, predicted deviations, coverage of intervals."""

from qbrm_lab.evaluation.coverage import Coverage, interval_coverage
from qbrm_lab.evaluation.deviation import DeviationBins, deviation_bins, error_auroc, resampled_aurocs
from qbrm_lab.evaluation.risk_coverage import area, curve_points, oracle_risk, resampled_areas, selective_risk

__all__ = [
    "Coverage",
    "DeviationBins",
    "area",
    "curve_points",
    "deviation_bins",
    "error_auroc",
    "interval_coverage",
    "oracle_risk",
    "resampled_areas",
    "resampled_aurocs",
    "selective_risk",
]
