"""Which score to use and how far to go with it: cross-validation by prompt, and risk control of the strength."""

from qbrm.selection.candidates import BASE, CANDIDATES, Candidate
from qbrm.selection.cross_validation import Choice, Choosing, cross_validate
from qbrm.selection.strength import STRENGTHS, Guarantee, greatest_safe_strength

__all__ = [
    "BASE",
    "CANDIDATES",
    "STRENGTHS",
    "Candidate",
    "Choice",
    "Choosing",
    "Guarantee",
    "cross_validate",
    "greatest_safe_strength",
]
