"""The Boltzmann machines of dwave-pytorch-plugin: spins, energies rather than log-weights, a graph of couplings."""

from __future__ import annotations

from collections.abc import Hashable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from qbrm.errors import InputError
from qbrm.interop.ising import Ising

if TYPE_CHECKING:
    from dwave.plugins.torch.models import GraphRestrictedBoltzmannMachine


def to_graph_machine(problem: Ising, visible: int | None = None) -> GraphRestrictedBoltzmannMachine:
    r"""The plugin's machine whose energy is minus our log-weight: nodes 0 to M - 1, coupled pairs as edges.

    .. math:: E(s) = -\sum_i h_i s_i - \sum_{i<j} J_{ij} s_i s_j

    Args:
        problem: the distribution.
        visible: how many of the first spins are visible, the others being hidden; None for visible ones only.

    Raises:
        InputError: if the plugin is not installed.
    """
    fields, couplings = (part.detach().cpu() for part in problem)
    nodes = range(len(fields))
    edges = [tuple(pair) for pair in couplings.triu(1).nonzero().tolist()]
    machine: GraphRestrictedBoltzmannMachine = plugin("models").GraphRestrictedBoltzmannMachine(
        nodes, edges, hidden_nodes=None if visible is None else nodes[visible:]
    )
    machine.to(fields.dtype)
    with torch.no_grad():
        machine.linear.copy_(-fields)
        machine.quadratic.copy_(-couplings[machine.edge_idx_i, machine.edge_idx_j])
    return machine


def to_restricted_graph_machine(problem: Ising, visible: int) -> GraphRestrictedBoltzmannMachine:
    """The same of two layers, the problem's first spins being the visible one.

    Raises:
        InputError: if two spins of the same layer are coupled, or the plugin is not installed.
    """
    within = problem.couplings.detach().clone()
    within[:visible, visible:] = within[visible:, :visible] = 0
    if within.any():
        raise InputError(
            f"couplings within a layer reach {float(within.abs().max()):g}; expected zeros, as a restricted machine "
            f"with {visible} visible spins has none."
        )
    return to_graph_machine(problem, visible)


def from_graph_machine(machine: GraphRestrictedBoltzmannMachine) -> tuple[Ising, list[Hashable]]:
    """The problem whose log-weight is minus the machine's energy, and the node that each spin is.

    The spins are in the machine's order of nodes, not the visible ones first.
    """
    fields = -machine.linear.detach().clone()
    couplings = fields.new_zeros(len(fields), len(fields))
    first, second = machine.edge_idx_i, machine.edge_idx_j
    # Added, not set: an edge may be listed twice, from either end.
    couplings.index_put_((first, second), -machine.quadratic.detach(), accumulate=True)
    return Ising(fields, couplings + couplings.mT), list(machine.nodes)


def plugin(module: str) -> Any:
    """A module of the plugin. Raises InputError if it is not installed."""
    try:
        return import_module(f"dwave.plugins.torch.{module}")
    except ImportError as error:
        raise InputError(
            f"dwave-pytorch-plugin is not installed ({error}); pip install 'qbrm[dwave-plugin]'."
        ) from error
