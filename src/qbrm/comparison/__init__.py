"""Comparison of reward models, refined and not, on held-out preferences."""

from qbrm.comparison.compare import compare
from qbrm.comparison.scenario import SCENARIOS
from qbrm.comparison.settings import ComparisonSettings

__all__ = ["SCENARIOS", "ComparisonSettings", "compare"]
