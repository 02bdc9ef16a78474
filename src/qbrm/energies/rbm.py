"""The classical restricted Boltzmann machine: hidden spins, a Gaussian reward unit, a closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.energies.base import Clamped
from qbrm.energies.boltzmann import LogConcaveScore
from qbrm.energies.familiarity import GateRank
from qbrm.energies.log_cosh import log_cosh
from qbrm.energies.newton import Slope


class RBM(LogConcaveScore):
    r"""Classical restricted Boltzmann machine with a Gaussian reward unit.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} + \frac{g}{K} \Bigl(
              \sum_j \log\cosh(W_j e + c_j + r\,u_j) - \frac{|u|^2 r^2}{2}\Bigr),
              \qquad \mu = r_0 + g\,(a^\top e + a_0)

    Every hidden field lies along z, so all terms of the Hamiltonian commute and the hidden units are spins.

    Args:
        dim: embedding size D.
        hidden: number of hidden spins M.
        anchored: whether mu contains the base reward r0.
        coupling: initial length |u| of the couplings between reward and hidden spins.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        members: K machines of which this is the geometric mean.
        deep: units of the trunk phi(e) = tanh(V e + v) that takes the place of e in the fields and in mu; 0 for none.
        strength: share of the correction that is applied, 0 to 1.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 32,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: GateRank | None = None,
        members: int = 1,
        deep: int = 0,
        strength: float = 1.0,
    ) -> None:
        super().__init__(dim, hidden, 1, anchored, coupling, gate_rank, members, deep, strength)

    @override
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        return log_cosh(torch.addcmul(clamped.field, reward[..., None], self.u)).sum(-1)

    @override
    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        """Derivatives f' and f''; with one axis they are sums of tanh and sech^2, at a third of the general cost."""
        field, coupling, precision = clamped.field[:, 0], self.u[0], self.tau.pow(-2)
        coupling_2, weight = coupling.square(), self.weight(clamped)

        def at(reward: Float[Tensor, " batch"]) -> Slope:
            magnetisation = torch.addcmul(field, reward[:, None], coupling).tanh_()
            pull = magnetisation @ coupling - coupling_2.sum() * reward
            first = weight * pull - (reward - clamped.mean) * precision
            return Slope(first, -precision - weight * (magnetisation.square_() @ coupling_2))

        return at
