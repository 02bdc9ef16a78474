"""Accuracy and calibration, with their intervals."""

from qbrm.evaluation.bootstrap import Interval, PromptBootstrap, interval, means
from qbrm.evaluation.calibration import Decisions, decisions, expected_calibration_error, reliability
from qbrm.evaluation.outcomes import Items, Outcomes, Sampling, is_correct

__all__ = [
    "Decisions",
    "Interval",
    "Items",
    "Outcomes",
    "PromptBootstrap",
    "Sampling",
    "decisions",
    "expected_calibration_error",
    "interval",
    "is_correct",
    "means",
    "reliability",
]
