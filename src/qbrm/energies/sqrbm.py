"""The semi-quantum restricted Boltzmann machine: hidden qubits, a Gaussian reward unit, a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from qbrm.energies.base import Clamped, EnergyScore, Lattice
from qbrm.energies.familiarity import Familiarity, fit_familiarity
from qbrm.energies.log_cosh import log_cosh_of_square
from qbrm.energies.newton import Slope, newton_mode
from qbrm.units import location_and_scale

MIN_TAU = 0.02
# A window around the mode need not be centred better than to some hundredths of a standard deviation.
NEAR_STEP = 0.05


class SemiQuantumRBM(EnergyScore):
    r"""Semi-quantum restricted Boltzmann machine with a Gaussian reward unit.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} + \frac{g}{K} \Bigl(
              \sum_j \log\cosh\lVert W_j e + c_j + r\,u_j\rVert - \frac{|u|^2 r^2}{2}\Bigr),
              \qquad \mu = r_0 + g\,(a^\top e + a_0)

    Hidden qubit j feels a vector field along `axes` mutually non-commuting Pauli matrices; tracing it out leaves the
    log cosh of the field's length (log 2cosh less a constant that means nothing), so nothing is sampled. One axis is
    the classical restricted Boltzmann machine. The trace over semi-quantum hidden units is that of Demidik et al.
    (2025), arXiv 2502.17562; the continuous unit that of Gerlach et al. (2025), arXiv 2511.04856.

    A machine has g = K = 1. With a gate, g(e) is its familiarity (see :meth:`close_gate`); with K > 1 it is the
    geometric mean of K machines, whose hidden qubits stand side by side (see
    :func:`~qbrm.energies.geometric_mean.geometric_mean`). The term |u|^2 r^2 / 2 keeps f'' <= -1 / tau^2 whatever the
    fields are (see :meth:`slope`). With W, c, u and a at zero the mode is exactly r0. The embedding is standardised per
    dimension with the training features' statistics, folded into the weights.

    Args:
        dim: embedding size D.
        hidden: number of hidden qubits M.
        axes: Pauli axes per qubit, 1 (classical) to 3.
        anchored: whether mu contains the base reward r0. Without it the score models r0 itself, as EBRM does.
        coupling: initial length |u| of the couplings between reward and hidden qubits.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        members: K.

    Raises:
        ValueError: if `axes` is not 1, 2 or 3.
    """

    embedding_loc: Tensor
    embedding_scale: Tensor

    def __init__(
        self,
        dim: int,
        hidden: int = 32,
        axes: int = 2,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: int | None = None,
        members: int = 1,
    ) -> None:
        if axes not in (1, 2, 3):
            raise ValueError(f"axes is {axes}; expected 1 (classical), 2 or 3 Pauli axes")
        super().__init__(dim)
        self.hidden, self.axes, self.anchored, self.coupling = hidden, axes, anchored, coupling
        self.members = members
        self.register_buffer("embedding_loc", torch.zeros(dim))
        self.register_buffer("embedding_scale", torch.ones(dim))
        self.W = nn.Parameter(torch.zeros(axes, hidden, dim))
        self.c = nn.Parameter(torch.zeros(axes, hidden))
        self.u = nn.Parameter(coupling * functional.normalize(torch.randn(axes * hidden), dim=0).view(axes, hidden))
        self.a = nn.Parameter(torch.zeros(dim))
        self.a0 = nn.Parameter(torch.zeros(()))
        self.log_tau = nn.Parameter(torch.zeros(()))
        self.gate = None if gate_rank is None else Familiarity(dim, gate_rank)

    @override
    def settings(self) -> dict[str, Any]:
        names = ("dim", "hidden", "axes", "anchored", "coupling", "members")
        return {**{name: getattr(self, name) for name in names}, "gate_rank": self.gate.rank if self.gate else None}

    def scatter(self) -> None:
        """Start training from hidden qubits that differ in what they read, instead of from the identity.

        From W = 0 all hidden qubits get the same gradient but for u, and together learn little more than a linear
        correction. Here each reads a random field of size one, in pairs (W, u) and (-W, u) whose pulls on the reward
        cancel at r = 0. Takes its numbers from torch's global generator.
        """
        half = self.hidden // 2
        pair = slice(half, 2 * half)
        with torch.no_grad():
            field = torch.randn(self.axes, half, self.dim) / math.sqrt(self.dim)
            self.W[:, :half], self.W[:, pair] = field, -field
            self.u[:, pair] = self.u[:, :half]
            self.u.mul_(self.coupling / self.u.norm().clamp_min(1e-12))

    def close_gate(self, train: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"]) -> None:
        """Make the correction fade where embeddings are unlike those trained on.

        From then on, the hidden qubits and the shift a . e + a0 have the weight g(e), the embedding's familiarity: far
        from the refinement set a normal around the base reward is left.

        Args:
            train: embeddings that the score was trained on.
            held_out: embeddings of validation prompts, which set the threshold.
        """
        self.gate = fit_familiarity(self._standard(train), self._standard(held_out))

    def familiarity(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """How far the gate is open to each embedding, 0 to 1; 1 for a score without a gate."""
        if self.gate is None:
            return embedding.new_ones(len(embedding))
        opened: Tensor = self.gate(self._standard(embedding))
        return opened

    def _standard(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return (embedding - self.embedding_loc) / self.embedding_scale

    @property
    def tau(self) -> Tensor:
        """Standard deviation of the reward unit without its hidden qubits, in standardised units."""
        return self.log_tau.exp().clamp_min(MIN_TAU)

    @property
    def stiffness(self) -> Tensor:
        """1 / tau^2 + |u|^2 / K: the greatest curvature -f'' there can be."""
        return self.tau.pow(-2) + self.u.square().sum() / self.members

    @property
    def pull(self) -> Tensor:
        """Furthest that the hidden qubits can move the mode: sum_j |u_j| / K / stiffness."""
        return self._coupling_lengths / (self.members * self.stiffness)

    @property
    def _coupling_lengths(self) -> Tensor:
        return self.u.square().sum(0).sqrt().sum()

    @override
    def standardise(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        super().standardise(embedding, base_reward)
        units = (self.embedding_loc, self.embedding_scale)
        for unit, value in zip(units, location_and_scale(embedding), strict=True):
            unit.copy_(value)

    @override
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        out = functional.linear(embedding, *self._read())
        field, shift = out[:, :-1].reshape(-1, self.axes, self.hidden), out[:, -1]
        familiarity = None if self.gate is None else self.familiarity(embedding)
        shift = shift if familiarity is None else shift * familiarity
        standard = self.to_standard(base_reward)
        mean = shift + standard if self.anchored else shift
        return Clamped(field, mean, standard, familiarity=familiarity)

    def _read(self) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, " rows"]]:
        """Weights and bias of the one matrix product that reads the embedding: all fields, and the shift a.e + a0."""
        weight = torch.cat([self.W.flatten(0, 1), self.a[None]]) / self.embedding_scale
        bias = torch.cat([self.c.flatten(), self.a0[None]])
        return weight, bias - weight @ self.embedding_loc

    @override
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        square = torch.zeros(())
        for axis in range(self.axes):
            field = clamped.field[:, axis, None, :] + reward[..., None] * self.u[axis]
            square = square + field.square()
        return self.joint(clamped, reward, log_cosh_of_square(square).sum(-1))

    def joint(
        self, clamped: Clamped, reward: Float[Tensor, "#batch n"], free: Float[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n"]:
        """f(e, r) from the hidden units' sum of log cosh: with their weight, and with the reward unit's own energy."""
        gaussian = (reward - clamped.mean[:, None]).square() / self.tau.square()
        hidden = free - self.u.square().sum() * reward.square() / 2
        return self.weight(clamped)[:, None] * hidden - gaussian / 2

    def weight(self, clamped: Clamped) -> Float[Tensor, " #batch"]:
        """Weight g(e) / K of the hidden units."""
        familiarity = self.u.new_ones(1) if clamped.familiarity is None else clamped.familiarity
        return familiarity / self.members

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

    def bracket(self, clamped: Clamped) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Rewards between which the mode must lie: hidden units pull with at most sum_j |u_j| times their weight."""
        weight, precision = self.weight(clamped), self.tau.pow(-2)
        stiffness = precision + weight * self.u.square().sum()
        centre, reach = clamped.mean * precision / stiffness, weight * self._coupling_lengths / stiffness
        return centre - reach, centre + reach

    @override
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return newton_mode(self, clamped)

    @override
    @torch.no_grad()
    def lattice(self, clamped: Clamped, spacing: float = 0.8) -> Lattice:
        # Beyond the bracket p(r | e) falls at least as fast as a normal of variance 1 / (1 / tau^2 + g |u|^2 / K), and
        # on either side of its mode as one of variance tau^2. Six deviations leave 2e-9 out.
        if not math.isfinite(self.stiffness):
            raise FloatingPointError(f"1 / tau^2 + |u|^2 is {float(self.stiffness)}")
        deviation = float(self.stiffness) ** -0.5
        step = spacing * deviation
        softest = self.tau.pow(-2) + self.weight(clamped).min() * self.u.square().sum()
        widest = 2 * float(self.pull) + 6 * float(softest) ** -0.5
        reach = math.ceil(min(6 * float(self.tau), widest) / step)
        near = newton_mode(self, clamped, small_step=NEAR_STEP)
        centre = (near / step).round().long()
        return Lattice(centre - reach, step, 2 * reach + 1)
