"""Comparison of reward models, refined and not, on held-out preferences."""

from qbrm_lab.comparison.compare import compare
from qbrm_lab.comparison.settings import ComparisonSettings

__all__ = ["ComparisonSettings", "compare"]
