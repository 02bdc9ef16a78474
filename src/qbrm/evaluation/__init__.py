"""Accuracy and calibration, with their intervals."""

from qbrm.evaluation.bootstrap import Interval, PromptBootstrap, interval, means
from qbrm.evaluation.calibration import Decisions, decisions, expected_calibration_error, reliability

__all__ = [
    "Decisions",
    "Interval",
    "PromptBootstrap",
    "decisions",
    "expected_calibration_error",
    "interval",
    "means",
    "reliability",
]
