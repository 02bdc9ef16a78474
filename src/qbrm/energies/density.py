"""p(r | e), normalised exactly: it is one-dimensional, so nothing about it needs sampling."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.special import sici
from torch import Tensor

if TYPE_CHECKING:
    from qbrm.energies.base import Clamped, EnergyScore, Lattice

_FAR = 4096


class Density(NamedTuple):
    """p(r | e) of a batch of examples on a lattice, in standardised units.

    Attributes:
        lattice: where it is known.
        mass: density times step at each node, summing to one, shape (batch, nodes).
    """

    lattice: Lattice
    mass: Float[Tensor, "batch nodes"]

    def rows(self, rows: slice | Int[Tensor, " picked"]) -> Density:
        """Some of the examples."""
        first = self.lattice.first if len(self.lattice.first) == 1 else self.lattice.first[rows]
        return Density(self.lattice._replace(first=first), self.mass[rows])

    @property
    def mean(self) -> Float[Tensor, " batch"]:
        """E[r | e]."""
        return (self.mass * self.lattice.rewards).sum(-1)

    @property
    def std(self) -> Float[Tensor, " batch"]:
        """Standard deviation of r given e."""
        deviation = self.lattice.rewards - self.mean[:, None]
        return (self.mass * deviation.square()).sum(-1).sqrt()

    def pessimistic(self, beta: float) -> Float[Tensor, " batch"]:
        """-beta log E exp(-r / beta), see :func:`pessimistic`; beta in standardised units."""
        return pessimistic(self.mass, self.lattice.rewards, beta)

    @property
    def cdf(self) -> Float[Tensor, "batch nodes"]:
        """P(r <= node | e) at every node."""
        index = torch.arange(self.lattice.nodes, device=self.mass.device)
        return (self.mass @ _step_function(index[:, None] - index[None, :], self.mass.dtype).T).clamp(0, 1)

    def quantile(self, probability: float) -> Float[Tensor, " batch"]:
        """The reward below which `probability` of the mass lies, by linear interpolation between nodes."""
        cdf, rewards = self.cdf, self.lattice.rewards.expand_as(self.mass)
        above = (cdf >= probability).int().argmax(-1, keepdim=True).clamp_min(1)
        (c0, c1), (r0, r1) = ((x.gather(-1, above - 1), x.gather(-1, above)) for x in (cdf, rewards))
        weight = ((probability - c0) / (c1 - c0).clamp_min(1e-12)).clamp(0, 1)
        return (r0 + weight * (r1 - r0))[:, 0]


def density(score: EnergyScore, clamped: Clamped, spacing: float = 0.8) -> Density:
    """p(r | e) on a lattice that covers and resolves it.

    Args:
        score: the energy score.
        clamped: examples.
        spacing: as in :meth:`EnergyScore.lattice`; finer only for drawing and for quantiles.
    """
    lattice = score.lattice(clamped, spacing)
    return Density(lattice, score.log_mass(clamped, lattice).exp())


def pessimistic(
    mass: Float[Tensor, "batch nodes"], reward: Float[Tensor, "#batch nodes"], beta: float
) -> Float[Tensor, " batch"]:
    r"""The pessimistic reward, a soft minimum: the mean for large beta, the least reward for small beta.

    .. math:: R_\beta(e) = -\beta \log \mathbb{E}_{r \sim p(r \mid e)}\, e^{-r / \beta}

    Of a normal it is mu - sigma^2 / (2 beta), which the lattice gives as long as it holds the mass that this tilts p
    towards: for beta of a quarter of a deviation and more. Below that, the lowest node bounds it. The entropic risk of
    Foellmer & Schied (2002), Finance and Stochastics 6, 429; as a reward, arXiv 2606.09073.

    Args:
        mass: probability of each node.
        reward: the nodes.
        beta: in the units of the rewards.

    Raises:
        ValueError: if beta is not a positive number.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}; expected a positive number")
    mean = (mass * reward).sum(-1, keepdim=True)
    tilt = (mean - reward) / beta
    # Around the mean a large beta cancels nothing: log E exp(tilt) is then log1p of a small number.
    near = torch.log1p((mass * torch.expm1(tilt.clamp_max(1))).sum(-1))
    far = torch.logsumexp(mass.log() + tilt, -1)
    return mean[:, 0] - beta * torch.where(tilt.amax(-1) < 1, near, far)


def probability_greater(a: Density, b: Density) -> Float[Tensor, " batch"]:
    r"""P(r_a > r_b) for independent r_a ~ p(. | e_a) and r_b ~ p(. | e_b), pair by pair.

    .. math:: P = \sum_{ij} p_a(i)\,p_b(j)\,\Bigl[\tfrac12 + \tfrac1\pi \mathrm{Si}\bigl(\pi (i - j)\bigr)\Bigr]

    i and j count nodes on the common lattice. Si integrates the sinc interpolant of p_b exactly (Stenger, 1993,
    Numerical Methods Based on Sinc and Analytic Functions, section 4.5), so the error falls exponentially with the
    spacing where a cumulative sum's would only fall with a power; and P(r_a > r_b) + P(r_b > r_a) = 1 by symmetry.
    """
    shift = a.lattice.first - b.lattice.first
    nodes = (torch.arange(density.lattice.nodes, device=shift.device) for density in (a, b))
    index = next(nodes)[:, None] - next(nodes)
    below = _step_function(shift[:, None, None] + index, b.mass.dtype)
    return ((below @ b.mass[:, :, None])[..., 0] * a.mass).sum(-1).clamp(0, 1)


def _step_function(difference: Int[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """The band-limited unit step at whole numbers of lattice steps."""
    return _step_table(difference.device, dtype)[difference.clamp(-_FAR, _FAR) + _FAR]


@lru_cache(maxsize=8)
def _step_table(device: torch.device, dtype: torch.dtype) -> Float[Tensor, " differences"]:
    index = torch.arange(-_FAR, _FAR + 1, dtype=torch.float64, device="cpu")
    table = 0.5 + torch.from_numpy(sici(math.pi * index.numpy())[0]) / math.pi
    table[0], table[-1] = 0, 1
    return table.to(device, dtype)
