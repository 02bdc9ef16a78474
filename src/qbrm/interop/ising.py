"""Ising problems: their log-weight, their form in units 0 and 1, and what is left when some of the spins are known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError


class Ising(NamedTuple):
    r"""A distribution over spins s in {-1, +1}^M: :math:`p(s) \propto \exp(h^\top s + \tfrac12 s^\top J s)`."""

    fields: Float[Tensor, "*batch spins"]
    couplings: Float[Tensor, "spins spins"]


def check_problem(fields: Float[Tensor, "batch spins"], couplings: Float[Tensor, "*batch spins spins"]) -> None:
    """Refuse what is not an Ising problem.

    Raises:
        InputError: if a value or an energy is not finite, a shape is wrong, or the couplings are not symmetric with
            zero diagonal.
    """
    if fields.ndim != 2:
        raise InputError(f"fields have shape {tuple(fields.shape)}; expected (batch, spins).")
    batch, spins = fields.shape
    if couplings.shape not in ((spins, spins), (batch, spins, spins)):
        raise InputError(
            f"couplings have shape {tuple(couplings.shape)}; expected {(spins, spins)} or {(batch, spins, spins)}."
        )
    for name, values in (("fields", fields), ("couplings", couplings)):
        if not torch.isfinite(values).all():
            raise InputError(f"{name} hold {int((~torch.isfinite(values)).sum())} values that are NaN or infinite.")
    if batch and not torch.isfinite(fields.abs().sum(-1).max() + couplings.abs().sum((-2, -1)).max()):
        largest = max(float(values.abs().max()) for values in (fields, couplings))
        raise InputError(
            f"energies of {spins} spins overflow: fields or couplings up to {largest:g}; expected smaller ones."
        )
    if not torch.equal(couplings, couplings.mT):
        worst = float((couplings - couplings.mT).abs().max())
        raise InputError(f"couplings differ from their transpose by up to {worst:g}; expected a symmetric matrix.")
    if couplings.diagonal(dim1=-2, dim2=-1).any():
        worst = float(couplings.diagonal(dim1=-2, dim2=-1).abs().max())
        raise InputError(f"couplings have {worst:g} on the diagonal; expected zeros.")


def log_weight(problem: Ising, states: Float[Tensor, "*batch spins"]) -> Float[Tensor, "*batch"]:
    r"""Logarithm of the unnormalised probability, :math:`h^\top s + \tfrac12 s^\top J s`."""
    return (states * (problem.fields + states @ problem.couplings / 2)).sum(-1)


def from_units(bias: Float[Tensor, " units"], weights: Float[Tensor, "units units"]) -> Ising:
    r"""The problem of units v = (1 + s) / 2 with :math:`p(v) \propto \exp(b^\top v + \tfrac12 v^\top Q v)`.

    .. math:: h_i = \tfrac12 b_i + \tfrac14 \sum_j Q_{ij}, \qquad J = \tfrac14 Q

    b is the bias, Q the weights, symmetric with zero diagonal.
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
    """
    known = visible.shape[-1]
    fields = problem.fields[known:] + visible @ problem.couplings[:known, known:]
    return Ising(fields, problem.couplings[known:, known:])


def with_pair_spins(problem: Ising) -> Ising:
    r"""The same distribution as the visible layer of a restricted machine, with one hidden spin for each coupled pair.

    .. math:: \sum_{t = \pm 1} e^{t a (s_i + \operatorname{sign}(J_{ij}) s_j)}
              \propto e^{J_{ij} s_i s_j}, \qquad \cosh 2a = e^{2 |J_{ij}|}

    Summed over the new spins, which come last, the weight of every state is the given one up to a constant. Exact, but
    spins become M + M (M - 1) / 2. (Any pairwise model is a restricted one in this way: a Hubbard-Stratonovich
    transformation with a discrete field; Hirsch, 1983, Phys. Rev. B 28, 4059.)
    """
    visible = len(problem.fields)
    first, second = problem.couplings.triu(1).nonzero(as_tuple=True)
    coupling = problem.couplings[first, second]
    size = torch.expm1(2 * coupling.abs())
    link = torch.log1p(size + (size * (size + 2)).sqrt()) / 2  # acosh(1 + size) / 2
    pair = torch.arange(len(first), device=first.device)
    between = problem.fields.new_zeros(visible, len(first))
    between[first, pair], between[second, pair] = link, link * coupling.sign()
    couplings = torch.nn.functional.pad(between, (visible, 0, 0, len(first)))
    return Ising(torch.cat([problem.fields, between.new_zeros(len(first))]), couplings + couplings.mT)


def without_pair_spins(problem: Ising, visible: int) -> Ising:
    r"""What is left of a restricted machine when hidden spins that touch at most two visible ones are summed out.

    .. math:: \log \sum_{t = \pm 1} e^{t (f + a s_i + b s_j)} = k + x s_i + y s_j + z s_i s_j

    with x, y, z from the four states of s_i and s_j; visible spins come first. The inverse of :func:`with_pair_spins`.

    Raises:
        InputError: if there are fewer than two visible spins, two spins of one layer are coupled, or a hidden spin
            touches more than two visible ones.
    """
    between = problem.couplings[:visible, visible:]
    if problem.couplings[:visible, :visible].any() or problem.couplings[visible:, visible:].any():
        raise InputError(f"couplings within a layer of {visible} visible spins; expected zeros.")
    if visible < 2:
        raise InputError(f"{visible} visible spins; expected two or more.")
    most = int((between != 0).sum(0).max()) if between.numel() else 0
    if most > 2:
        raise InputError(
            f"a hidden spin touches {most} visible ones; expected two at most, as more are no pairwise model."
        )
    fields, couplings = problem.fields[:visible].clone(), problem.couplings[:visible, :visible].clone()
    for links, field in zip(between.T, problem.fields[visible:], strict=True):
        i, j = links.abs().topk(2).indices
        signs = links.new_tensor([1.0, -1.0])
        table = field + links[i] * signs[:, None] + links[j] * signs
        table = torch.logaddexp(table, -table)
        fields[i] += (table * signs[:, None]).mean()
        fields[j] += (table * signs).mean()
        couplings[i, j] += (table * signs[:, None] * signs).mean()
        couplings[j, i] = couplings[i, j]
    return Ising(fields, couplings)
