"""The quantum Boltzmann machine: coupled hidden qubits in a transverse field, exact or by path integral."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from qbrm.energies.base import Clamped
from qbrm.energies.familiarity import GateRank
from qbrm.energies.log_cosh import log_cosh_of_square
from qbrm.energies.newton import Slope, newton_mode
from qbrm.energies.qbm import CoupledBoltzmannMachine, HiddenLayer
from qbrm.energies.transverse_field import log_partition, response
from qbrm.samplers import Sampler
from qbrm.samplers.path_integral import sliced_couplings

# At Gamma = 0 the gradient with respect to Gamma vanishes: f does not know its sign.
INITIAL_TRANSVERSE = 0.5
# Weaker fields are sliced as this one; the tie between slices has no limit at zero, and f changes by Gamma^2.
LEAST_TRANSVERSE = 1e-3


class TransverseFieldMachine(CoupledBoltzmannMachine):
    r"""Quantum Boltzmann machine with a Gaussian reward unit: coupled hidden qubits in a transverse field.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} - \frac{\kappa r^2}{2} + \log \operatorname{Tr} \exp\Bigl(
              \sum_j (W e + c + r u)_j\, \sigma^z_j + \sum_{j<k} J_{jk}\, \sigma^z_j \sigma^z_k
              + \sum_j \Gamma_j\, \sigma^x_j\Bigr) - M \log 2, \qquad \mu = r_0 + a^\top e + a_0

    The terms do not commute, so there is no closed form. Without a sampler the trace is exact, from the eigenvalues of
    2^M x 2^M matrices: up to 8 qubits in training, 10 in use. With kappa as in :attr:`confinement`,
    f'' <= -1 / tau^2: p(r | e) has one mode, which Newton's method finds.

    With a sampler, p(r | e) is a path integral with P slices. Integrating r out leaves one Ising problem over P M spins
    per example, as for :class:`~qbrm.energies.CoupledBoltzmannMachine`, and any Ising sampler will do; what is off is a
    Trotter error that falls as 1 / P^2, beside the Monte-Carlo error.

    With Gamma = 0 it is ``qbm`` but for kappa, with J = 0 it is ``sqrbm`` with a constant transverse field. Amin et al.
    (2018), Phys. Rev. X 8, 021050 (arXiv 1601.02036). A gate fades the fields W e + c.

    Args:
        dim: embedding size D.
        hidden: number of hidden qubits M.
        anchored: whether mu contains the base reward r0.
        coupling: initial length |u| of the couplings between reward and hidden qubits.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        sampler: what draws the spins of the path integral: a :class:`~qbrm.samplers.Sampler`, or a name in `SAMPLERS`,
            which is saved with a model; None to diagonalise.
        samples: world lines drawn per example.
        slices: P, at least 3; more make the Trotter error smaller and Markov chains slower.
        deep: units of the trunk phi(e) = tanh(V e + v) that takes the place of e in the fields and in mu; 0 for none.
        strength: share of the correction that is applied, 0 to 1.

    Raises:
        ValueError: if there are fewer than three slices.
    """

    chunk_rows: ClassVar[int] = 1024
    refinement: ClassVar[str] = "mode"
    most_summed: ClassVar[int] = 8
    units: ClassVar[str] = "qubits"

    def __init__(
        self,
        dim: int,
        hidden: int = 6,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: GateRank | None = None,
        sampler: str | Sampler | None = None,
        samples: int = 64,
        slices: int = 4,
        deep: int = 0,
        strength: float = 1.0,
    ) -> None:
        if slices < 3:
            raise ValueError(f"path integral of {slices} slices; expected at least 3")
        super().__init__(
            dim,
            hidden=hidden,
            anchored=anchored,
            coupling=coupling,
            gate_rank=gate_rank,
            sampler=sampler,
            samples=samples,
            deep=deep,
            strength=strength,
        )
        self.slices = slices
        self.transverse = nn.Parameter(torch.full((hidden,), INITIAL_TRANSVERSE))

    @override
    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "slices": self.slices}

    @property
    @override
    def confinement(self) -> Float[Tensor, ""]:
        r"""kappa, which no second derivative of log Tr exp(-H) in r exceeds, whatever the fields and Gamma are.

        .. math:: \kappa = \min\Bigl(\bigl(\sum_j |u_j|\bigr)^2,\; u^\top (I - J - d I)^{-1} u\Bigr),
                  \qquad d = -\lambda_{\min}(J)

        The second holds where the eigenvalues of J lie within less than one of each other, and is |u|^2 for J = 0.
        docs/mathematics.md has the proofs.

        Raises:
            FloatingPointError: if J or u is not finite.
        """
        u, couplings = self.u[0], self.couplings
        if not (torch.isfinite(u).all() and torch.isfinite(couplings).all()):
            raise FloatingPointError("couplings are not finite")
        aligned = u.abs().sum().square()
        spectrum = torch.linalg.eigvalsh(couplings)
        if spectrum[-1] - spectrum[0] >= 1:
            return aligned
        identity = torch.eye(self.hidden, dtype=u.dtype, device=u.device)
        return torch.minimum(aligned, u @ torch.linalg.solve((1 + spectrum[0]) * identity - couplings, u))

    @override
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        fields = clamped.field + reward[..., None] * self.u
        if not torch.is_grad_enabled() and not self.couplings.any():
            return log_cosh_of_square(fields.square() + self.transverse.square()).sum(-1)
        free = log_partition(fields.flatten(0, 1), self.couplings, self.transverse).view(fields.shape[:2])
        return free - self.hidden * math.log(2)

    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        """Derivatives f' and f'' as a function of one standardised reward per example, from one diagonalisation."""
        field, pull, couplings = clamped.field[:, 0], self.u[0], self.couplings
        precision, confinement = self.tau.pow(-2), self.confinement

        def at(reward: Float[Tensor, " batch"]) -> Slope:
            fields = torch.addcmul(field, reward[:, None], pull)
            first, second = response(fields, couplings, self.transverse, pull)
            first = first - confinement * reward - (reward - clamped.mean) * precision
            return Slope(first, second - confinement - precision)

        return at

    @override
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return newton_mode(self, clamped) if self.sampler is None else super().mode(clamped)

    @override
    def hidden_layer(self, clamped: Clamped) -> HiddenLayer:
        transverse = self.transverse.abs().clamp_min(LEAST_TRANSVERSE)
        fields, pull = (part.repeat(1, self.slices) / self.slices for part in (clamped.field[:, 0], self.u))
        return HiddenLayer(fields, sliced_couplings(self.couplings, transverse, self.slices), pull[0])
