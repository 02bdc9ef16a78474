"""Ising problems: their log-weight, their form in units 0 and 1, and what is left when some of the spins are known."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Ising(NamedTuple):
    r"""A distribution over spins s in {-1, +1}^M: :math:`p(s) \propto \exp(h^\top s + \tfrac12 s^\top J s)`."""

    fields: Float[Tensor, "*batch spins"]
    couplings: Float[Tensor, "spins spins"]


def log_weight(problem: Ising, states: Float[Tensor, "*batch spins"]) -> Float[Tensor, "*batch"]:
    r"""Logarithm of the unnormalised probability, :math:`h^\top s + \tfrac12 s^\top J s`."""
    return (states * (problem.fields + states @ problem.couplings / 2)).sum(-1)


def from_units(bias: Float[Tensor, " units"], weights: Float[Tensor, "units units"]) -> Ising:
    r"""The problem of units v = (1 + s) / 2 with :math:`p(v) \propto \exp(b^\top v + \tfrac12 v^\top Q v)`.

    .. math:: h_i = \tfrac12 b_i + \tfrac14 \sum_j Q_{ij}, \qquad J = \tfrac14 Q

    Args:
        bias: b.
        weights: Q, symmetric with zero diagonal.
    """
    return Ising(bias / 2 + weights.sum(0) / 4, weights / 4)


def to_units(problem: Ising) -> tuple[Float[Tensor, " units"], Float[Tensor, "units units"]]:
    r"""Bias b and weights Q of the same distribution in units 0 and 1; the inverse of :func:`from_units`.

    .. math:: b_i = 2 h_i - 2 \sum_j J_{ij}, \qquad Q = 4 J
    """
    return 2 * problem.fields - 2 * problem.couplings.sum(0), 4 * problem.couplings


def given_visible(problem: Ising, visible: Float[Tensor, "*batch visible"]) -> Ising:
    r"""The distribution of the remaining spins when the first ones are known.

    .. math:: p(s_h \mid s_v) \propto \exp\bigl((h_h + J_{hv} s_v)^\top s_h + \tfrac12 s_h^\top J_{hh} s_h\bigr)

    Args:
        problem: fields and couplings of all spins, the visible ones first.
        visible: states of the first spins, -1 or +1.
    """
    known = visible.shape[-1]
    fields = problem.fields[known:] + visible @ problem.couplings[:known, known:]
    return Ising(fields, problem.couplings[known:, known:])
