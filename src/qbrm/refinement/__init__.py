"""Refined rewards from an energy score: ascent (as published), mode, mean, pessimistic."""

from qbrm.refinement.ascent import Ascent
from qbrm.refinement.pessimistic import Pessimistic
from qbrm.refinement.refine import REFINEMENTS, refine

__all__ = ["REFINEMENTS", "Ascent", "Pessimistic", "refine"]
