"""The semi-quantum restricted Boltzmann machine: hidden qubits, a Gaussian reward unit, a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from qbrm.energies.base import Clamped
from qbrm.energies.boltzmann import LogConcaveScore
from qbrm.energies.familiarity import GateRank
from qbrm.energies.log_cosh import log_cosh_of_square
from qbrm.energies.newton import Slope


class SemiQuantumRBM(LogConcaveScore):
    r"""Semi-quantum restricted Boltzmann machine with a Gaussian reward unit.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} + \frac{g}{K} \Bigl(
              \sum_j \log\cosh\lVert W_j e + c_j + r\,u_j\rVert - \frac{|u|^2 r^2}{2}\Bigr),
              \qquad \mu = r_0 + g\,(a^\top e + a_0)

    Hidden qubit j feels a vector field along `axes` mutually non-commuting Pauli matrices; tracing it out leaves the
    log cosh of the field's length (log 2cosh less the constant log 2), so nothing is sampled. One axis is
    the classical restricted Boltzmann machine. The trace over semi-quantum hidden units is that of Demidik et al.
    (2025), arXiv 2502.17562; the continuous unit that of Gerlach et al. (2025), arXiv 2511.04856.

    Args:
        dim: embedding size D.
        hidden: number of hidden qubits M.
        axes: Pauli axes per qubit, 1 (classical) to 3.
        anchored: whether mu contains the base reward r0.
        coupling: initial length |u| of the couplings between reward and hidden qubits.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        members: K machines of which this is the geometric mean.
        deep: units of the trunk phi(e) = tanh(V e + v) that takes the place of e in the fields and in mu; 0 for none.
        strength: share of the correction that is applied, 0 to 1.

    Raises:
        ValueError: if `axes` is not 1, 2 or 3.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 32,
        axes: int = 2,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: GateRank | None = None,
        members: int = 1,
        deep: int = 0,
        strength: float = 1.0,
    ) -> None:
        if axes not in (1, 2, 3):
            raise ValueError(f"axes is {axes}; expected 1 (classical), 2 or 3 Pauli axes")
        super().__init__(dim, hidden, axes, anchored, coupling, gate_rank, members, deep, strength)

    @override
    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "axes": self.axes}

    @override
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        square = reward.new_zeros(())
        for axis in range(self.axes):
            square = square + (clamped.field[:, axis, None, :] + reward[..., None] * self.u[axis]).square()
        return log_cosh_of_square(square).sum(-1)

    @override
    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        r"""Derivatives f' and f'' as a function of one standardised reward per example.

        With x = |b_j|, s = b_j . u_j and k = tanh(x) / x, hidden qubit j of weight one adds k s to f' and
        k |u_j|^2 + (sech^2 x - k) s^2 / x^2 to f''. As sech^2 x <= k <= 1, the latter is at most |u_j|^2, hence
        f'' <= -1 / tau^2 whatever the weight is.
        """
        square_0 = clamped.field.square().sum(1)
        along_0 = (clamped.field * self.u).sum(1)
        coupling_2 = self.u.square().sum(0)
        precision, confinement, weight = self.tau.pow(-2), self.u.square().sum(), self.weight(clamped)

        def at(reward: Float[Tensor, " batch"]) -> Slope:
            along = torch.addcmul(along_0, reward[:, None], coupling_2)
            square = torch.addcmul(square_0, reward[:, None], along_0 + along).clamp_min_(1e-8)
            length = square.sqrt()
            ratio = torch.tanh(length).div_(length)
            sech2 = 1 - square * ratio.square()
            bend = sech2.sub_(ratio).mul_(along.square().div_(square)).sum(-1)
            pull = (ratio * along).sum(-1) - confinement * reward
            first = weight * pull - (reward - clamped.mean) * precision
            return Slope(first, weight * (bend + ratio @ coupling_2 - confinement) - precision)

        return at
