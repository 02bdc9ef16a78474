"""Refinement as a compared method: one energy score, or several whose rewards are combined with care."""

from __future__ import annotations

from dataclasses import replace

from qbrm_lab.methods.base import Method
from qbrm_lab.methods.energy import energy_method
from qbrm_lab.methods.ensemble import COMBINATIONS, RefinedEnsemble
from qbrm_lab.methods.names import Defaults, MethodName


def refined(name: MethodName, defaults: Defaults) -> Method:
    """The method that refines with an energy score, or one of its variants.

    Raises:
        InputError: if so many hidden spins cannot be summed over.
    """
    combination = next((option for option in name.options if option in COMBINATIONS), None)
    if combination is None:
        return energy_method(name, defaults)
    alone = {option: value for option, value in name.options.items() if option not in (combination, "members")}
    member = energy_method(MethodName(name.description, alone), defaults)
    return RefinedEnsemble(str(name), replace(member, name=str(name)), int(name.options["members"]), combination)
