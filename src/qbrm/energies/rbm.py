"""The classical restricted Boltzmann machine: the semi-quantum one with a single axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.energies.base import Clamped
from qbrm.energies.log_cosh import log_cosh
from qbrm.energies.newton import Slope
from qbrm.energies.sqrbm import SemiQuantumRBM


class RBM(SemiQuantumRBM):
    r"""Classical restricted Boltzmann machine with a Gaussian reward unit.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} - \frac{|u|^2 r^2}{2} + \sum_j \log\cosh(W_j e + c_j + r\,u_j),
              \qquad \mu = r_0 + a^\top e + a_0

    Every hidden field lies along z, so all terms of the Hamiltonian commute and the hidden units are spins.

    Args:
        dim: embedding size D.
        hidden: number of hidden spins M.
        anchored: whether mu contains the base reward r0.
        coupling: initial length |u| of the couplings between reward and hidden spins.
        gate_rank: as for :class:`SemiQuantumRBM`.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 32,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: int | None = None,
    ) -> None:
        super().__init__(dim, hidden=hidden, axes=1, anchored=anchored, coupling=coupling, gate_rank=gate_rank)

    @override
    def settings(self) -> dict[str, Any]:
        settings = super().settings()
        del settings["axes"], settings["members"]
        return settings

    @override
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        field = torch.addcmul(clamped.field, reward[..., None], self.u)
        return self.joint(clamped, reward, log_cosh(field).sum(-1))

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
