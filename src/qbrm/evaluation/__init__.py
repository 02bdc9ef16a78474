"""Accuracy, calibration and their intervals."""

from qbrm.evaluation.bootstrap import PromptBootstrap, means
from qbrm.evaluation.calibration import expected_calibration_error, reliability
from qbrm.evaluation.outcomes import Items, Outcomes, Sampling, is_correct

__all__ = [
    "Items",
    "Outcomes",
    "PromptBootstrap",
    "Sampling",
    "expected_calibration_error",
    "is_correct",
    "means",
    "reliability",
]
