"""Refined rewards from an energy score: ascent (as published), mode, mean."""

from qbrm.refinement.ascent import Ascent
from qbrm.refinement.refine import REFINEMENTS, refine

__all__ = ["REFINEMENTS", "Ascent", "refine"]
