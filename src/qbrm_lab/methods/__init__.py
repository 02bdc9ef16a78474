"""Compared methods. What is imported here knows their names only; :func:`build_method` imports what builds them."""

from qbrm_lab.methods.catalogue import METHODS, MethodDescription, family_of, is_baseline, is_trained, words_of
from qbrm_lab.methods.names import Defaults, build_method, folder_name, method_name, split_methods

__all__ = [
    "METHODS",
    "Defaults",
    "MethodDescription",
    "build_method",
    "family_of",
    "folder_name",
    "is_baseline",
    "is_trained",
    "method_name",
    "split_methods",
    "words_of",
]
