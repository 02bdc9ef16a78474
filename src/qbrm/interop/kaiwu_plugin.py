"""The Boltzmann machines of kaiwu-torch-plugin: units 0 and 1, energies rather than log-weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import Ising, from_units, given_visible, to_units
from qbrm.interop.kaiwu_matrix import to_kaiwu_matrix

if TYPE_CHECKING:
    from kaiwu.torch_plugin import BoltzmannMachine, RestrictedBoltzmannMachine


def to_boltzmann_machine(problem: Ising) -> BoltzmannMachine:
    r"""The plugin's machine over v = (1 + s) / 2 whose energy is minus our log-weight up to a constant.

    .. math:: E(v) = -b^\top v - \sum_{i<j} Q_{ij} v_i v_j

    Raises:
        InputError: if the plugin is not installed.
    """
    bias, weights = to_units(_detached(problem))
    return _plugin().BoltzmannMachine(len(bias), weights, bias, device=bias.device)


def from_boltzmann_machine(machine: BoltzmannMachine) -> Ising:
    """The problem whose log-weight is minus the machine's energy up to a constant."""
    return _detached(from_units(machine.linear_bias, machine.symmetrized_quadratic_coef()))


def to_restricted_boltzmann_machine(problem: Ising, visible: int) -> RestrictedBoltzmannMachine:
    """The plugin's restricted machine, its visible units being the problem's first spins.

    Raises:
        InputError: if two spins of the same layer are coupled, or the plugin is not installed.
    """
    bias, weights = to_units(_detached(problem))
    within = weights.clone()
    within[:visible, visible:] = within[visible:, :visible] = 0
    if within.any():
        raise InputError(
            f"couplings within a layer reach {float(within.abs().max()) / 4:g}; expected zeros, as a restricted "
            f"machine with {visible} visible units has none."
        )
    between = weights[:visible, visible:].clone()
    return _plugin().RestrictedBoltzmannMachine(visible, len(bias) - visible, between, bias, device=bias.device)


def from_restricted_boltzmann_machine(machine: RestrictedBoltzmannMachine) -> Ising:
    """The problem whose log-weight is minus the machine's energy up to a constant, visible spins first."""
    visible, units = machine.num_visible, machine.num_nodes
    weights = machine.linear_bias.new_zeros(units, units)
    weights[:visible, visible:] = machine.quadratic_coef
    return _detached(from_units(machine.linear_bias, weights + weights.mT))


def hidden_ising_matrix(
    machine: BoltzmannMachine, visible: Float[Tensor, " visible"]
) -> Float64[np.ndarray, "hidden+1 hidden+1"]:
    """Kaiwu's Ising matrix of the hidden units given the visible ones, exact up to a constant.

    The plugin's own `_hidden_to_ising_matrix` (0.3.0, used by `condition_sample`) is not: the sums of the hidden units'
    weights enter it with 1/4, where v = (1 + s) / 2 gives 1/8, so that it samples another distribution. The machine's
    visible units come first; `visible` are their states, 0 or 1.
    """
    return to_kaiwu_matrix(given_visible(from_boltzmann_machine(machine), 2 * visible - 1))


def _detached(problem: Ising) -> Ising:
    return Ising(*(part.detach().clone() for part in problem))


def _plugin() -> Any:
    try:
        from kaiwu import torch_plugin
    except ImportError as error:
        raise InputError("kaiwu-torch-plugin is not installed; docs/kaiwu.md says how to install it.") from error
    return torch_plugin
