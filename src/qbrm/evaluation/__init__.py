"""Accuracy, calibration and their intervals."""

from qbrm.evaluation.bootstrap import Interval, PromptBootstrap, interval, means
from qbrm.evaluation.calibration import expected_calibration_error, reliability
from qbrm.evaluation.outcomes import Items, Outcomes, Sampling, is_correct

__all__ = [
    "Interval",
    "Items",
    "Outcomes",
    "PromptBootstrap",
    "Sampling",
    "expected_calibration_error",
    "interval",
    "is_correct",
    "means",
    "reliability",
]
