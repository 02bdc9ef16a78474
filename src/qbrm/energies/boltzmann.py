"""What Boltzmann machines over the reward share: a Gaussian reward unit, hidden fields, a gate, a temperature."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self, override

from qbrm.data.units import location_and_scale
from qbrm.energies.base import Clamped, EnergyScore, Lattice
from qbrm.energies.familiarity import Familiarity, GateRank, fit_contrast, fit_familiarity
from qbrm.energies.geometric_mean import geometric_mean
from qbrm.energies.newton import Slope, newton_mode
from qbrm.fitting.trainable import KeptEmbeddings

MIN_TAU = 0.02
# A window around the mode need not be centred better than to some hundredths of a standard deviation.
NEAR_STEP = 0.05
CENTRING_RESPONSES, CENTRING_STEPS = 1024, 20


class BoltzmannScore(EnergyScore):
    r"""A Boltzmann machine with a Gaussian reward unit, its embedding clamped.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} + \frac{g}{K} \Bigl(F(e, r) - \frac{|u|^2 r^2}{2}\Bigr),
              \qquad \mu = r_0 + g\,(a^\top e + a_0)

    F is the log of the hidden units' partition function in the fields W e + c + r u, centred to be zero where they
    vanish; subclasses say what the hidden units are. A machine has g = K = 1. With a gate, g(e) is the embedding's
    familiarity (see :meth:`close_gate`); with K > 1 the score is the geometric mean of K machines, whose hidden units
    stand side by side (see :func:`~qbrm.energies.geometric_mean.geometric_mean`).

    With W, c, u and a at zero the mode is exactly r0. The embedding is standardised per dimension with the training
    features' statistics, folded into the weights. With deep fields, phi(e) = tanh(V e + v) takes the place of e in W e
    and a . e. The strength, set after training, multiplies g: at zero the score is a normal around the base reward.

    Args:
        dim: embedding size D.
        hidden: number of hidden units M.
        axes: components of each hidden unit's field.
        anchored: whether mu contains the base reward r0. Without it the score models r0 itself, as EBRM does.
        coupling: initial length |u| of the couplings between reward and hidden units.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        members: K.
        deep: units of the trunk phi that the fields and the shift read; 0 for none.
        strength: share of the correction that is applied, 0 to 1.
    """

    embedding_loc: Float[Tensor, " dim"]
    embedding_scale: Float[Tensor, " dim"]

    def __init__(
        self,
        dim: int,
        hidden: int,
        axes: int,
        anchored: bool,
        coupling: float,
        gate_rank: GateRank | None,
        members: int,
        deep: int = 0,
        strength: float = 1.0,
    ) -> None:
        super().__init__(dim)
        self.hidden, self.axes, self.anchored, self.coupling = hidden, axes, anchored, coupling
        self.members, self.deep, self.strength = members, deep, strength
        read = deep or dim
        self.register_buffer("embedding_loc", torch.zeros(dim))
        self.register_buffer("embedding_scale", torch.ones(dim))
        self.W = nn.Parameter(torch.zeros(axes, hidden, read))
        self.c = nn.Parameter(torch.zeros(axes, hidden))
        self.u = nn.Parameter(coupling * functional.normalize(torch.randn(axes * hidden), dim=0).view(axes, hidden))
        self.a = nn.Parameter(torch.zeros(read))
        self.a0 = nn.Parameter(torch.zeros(()))
        self.log_tau = nn.Parameter(torch.zeros(()))
        self.gate = None if gate_rank is None else Familiarity.of_rank(dim, gate_rank)
        self.trunk = nn.Linear(dim, deep) if deep else None

    @override
    def settings(self) -> dict[str, Any]:
        names = ("dim", "hidden", "anchored", "coupling", "deep", "strength")
        shared = {name: getattr(self, name) for name in names}
        return {**shared, "gate_rank": self.gate.rank if self.gate else None}

    @override
    def scatter(self) -> None:
        """Start training from hidden units that differ in what they read, instead of from the identity.

        From W = 0 all hidden units get the same gradient but for u, and together learn little more than a linear
        correction. Here each reads a random field of size one, in pairs (W, u) and (-W, u) whose pulls on the reward
        cancel at r = 0. Takes its numbers from torch's global generator.
        """
        half = self.hidden // 2
        pair = slice(half, 2 * half)
        with torch.no_grad():
            read = self.W.shape[-1]
            field = torch.randn(self.axes, half, read, device="cpu").to(self.W) / math.sqrt(read)
            self.W[:, :half], self.W[:, pair] = field, -field
            self.u[:, pair] = self.u[:, :half]
            self.u.mul_(self.coupling / self.u.norm().clamp_min(1e-12))

    def close_gate(self, train: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"]) -> None:
        """Make the correction fade where embeddings are unlike those trained on; `held_out` sets the threshold.

        From then on, the hidden units and the shift a . e + a0 have the weight g(e), the embedding's familiarity: far
        from the refinement set a normal around the base reward is left.
        """
        self.set_gate(self.fitted_gate(train, held_out))

    @override
    def fitted_gate(
        self, train: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"], kept: KeptEmbeddings | None = None
    ) -> Familiarity:
        sides = [self._standard(embedding.to(self.W)) for embedding in (train, held_out, *(kept or ()))]
        return fit_familiarity(*sides) if kept is None else fit_contrast(*sides)

    @override
    def set_gate(self, gate: nn.Module | None) -> None:
        assert gate is None or isinstance(gate, Familiarity)
        self.gate = gate

    @override
    @torch.no_grad()
    def centre(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        """Move a0 until the mean correction of these responses is zero, with the gate open.

        Preferences do not tell a constant correction, but a gate would turn it into one that depends on e. The mode
        moves with a0 by a factor of at most one, so adding what is left of the mean converges.
        """
        gate, self.gate = self.gate, None
        few = slice(None, None, max(1, len(embedding) // CENTRING_RESPONSES))
        for _ in range(CENTRING_STEPS):
            clamped = self.clamp(embedding[few].to(self.W), base_reward[few].to(self.W))
            self.a0.sub_((self.mode(clamped) - clamped.base_reward).mean())
        self.gate = gate

    @override
    def set_strength(self, strength: float) -> None:
        self.strength = strength

    def familiarity(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Share g(e) of the correction that each embedding gets, 0 to 1: how far its gate is open, times strength."""
        if self.gate is None:
            return embedding.new_full((len(embedding),), self.strength)
        opened: Tensor = self.gate(self._standard(embedding))
        return self.strength * opened

    def log_familiarity(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Log p(e), the gate's density of what the score was trained on, per unit of the embedding.

        Unlike the density of standardised embeddings, that of one score can be compared with that of another.

        Raises:
            TypeError: if there is no gate.
        """
        if self.gate is None:
            raise TypeError(f"{type(self).__name__} has no gate; expected a score with one")
        return self.gate.log_density(self._standard(embedding)) - self.embedding_scale.log().sum()

    def _standard(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return (embedding - self.embedding_loc) / self.embedding_scale

    @override
    def renewed(self, **changes: Any) -> Self:
        return super().renewed(gate_rank=None, strength=1.0, **changes)

    @override
    def become(self, other: Self) -> None:
        self.gate, self.strength = copy.deepcopy(other.gate), other.strength
        super().become(other)

    @property
    @override
    def log_temperature(self) -> float:
        return float(self.log_tau.detach())

    @override
    def set_log_temperature(self, value: float) -> None:
        self.log_tau.data.fill_(max(value, math.log(MIN_TAU)))

    @property
    def tau(self) -> Float[Tensor, ""]:
        """Standard deviation of the reward unit without its hidden units, in standardised units."""
        return self.log_tau.exp().clamp_min(MIN_TAU)

    @property
    def confinement(self) -> Float[Tensor, ""]:
        """Curvature that the hidden units' own term takes from f: |u|^2, which no F'' without couplings exceeds."""
        return self.u.square().sum()

    @property
    def stiffness(self) -> Float[Tensor, ""]:
        """1 / tau^2 + |u|^2 / K: the greatest curvature -f'' there can be."""
        return self.tau.pow(-2) + self.confinement / self.members

    @property
    def pull(self) -> Float[Tensor, ""]:
        """Furthest that the hidden units can move the mode: sum_j |u_j| / K / stiffness."""
        return self._coupling_lengths / (self.members * self.stiffness)

    @property
    def _coupling_lengths(self) -> Float[Tensor, ""]:
        return self.u.square().sum(0).sqrt().sum()

    @override
    def standardise(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        super().standardise(embedding, base_reward)
        location, scale = location_and_scale(embedding)
        self.embedding_loc.copy_(location)
        self.embedding_scale.copy_(scale)

    @override
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        out = functional.linear(self._features(embedding), *self._read())
        field, shift = out[:, :-1].reshape(len(out), self.axes, self.hidden), out[:, -1]
        familiarity = None if self.gate is None and self.strength == 1 else self.familiarity(embedding)
        shift = shift if familiarity is None else shift * familiarity
        standard = self.to_standard(base_reward)
        mean = shift + standard if self.anchored else shift
        return Clamped(field, mean, standard, familiarity=familiarity)

    def _features(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch read"]:
        """What the fields read: phi(e) with deep fields, else e itself."""
        if self.trunk is None:
            return embedding
        return torch.tanh(functional.linear(embedding, *self._of_embedding(self.trunk.weight, self.trunk.bias)))

    def _read(self) -> tuple[Float[Tensor, "rows read"], Float[Tensor, " rows"]]:
        """Weights and bias of the one matrix product that gives all fields, and the shift a . e + a0."""
        weight, bias = torch.cat([self.W.flatten(0, 1), self.a[None]]), torch.cat([self.c.flatten(), self.a0[None]])
        return self._of_embedding(weight, bias) if self.trunk is None else (weight, bias)

    def _of_embedding(
        self, weight: Float[Tensor, "rows dim"], bias: Float[Tensor, " rows"]
    ) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, " rows"]]:
        """A linear map of the standardised embedding as one of the embedding."""
        scaled = weight / self.embedding_scale
        return scaled, bias - scaled @ self.embedding_loc

    @override
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        gaussian = (reward - clamped.mean[:, None]).square() / self.tau.square()
        hidden = self.hidden_free_energy(clamped, reward) - self.confinement * reward.square() / 2
        return self.weight(clamped)[:, None] * hidden - gaussian / 2

    @abstractmethod
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        """F(e, r): log of the hidden units' partition function, less M log 2."""

    def weight(self, clamped: Clamped) -> Float[Tensor, " #batch"]:
        """Weight g(e) / K of the hidden units."""
        familiarity = self.u.new_ones(1) if clamped.familiarity is None else clamped.familiarity
        return familiarity / self.members

    def bracket(self, clamped: Clamped) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Rewards between which the mode must lie: hidden units pull with at most sum_j |u_j| times their weight."""
        weight, precision = self.weight(clamped), self.tau.pow(-2)
        stiffness = precision + weight * self.confinement
        centre, reach = clamped.mean * precision / stiffness, weight * self._coupling_lengths / stiffness
        return centre - reach, centre + reach


class LogConcaveScore(BoltzmannScore):
    """A Boltzmann machine with a closed form whose f'' <= -1 / tau^2: the mode is unique and found by Newton's method.

    The term |u|^2 r^2 / 2 keeps f'' below that bound whatever the fields are (see :meth:`slope`). With K members it is
    the geometric mean of K machines.
    """

    @override
    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "members": self.members}

    @abstractmethod
    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        """Derivatives f' and f'' as a function of one standardised reward per example."""

    @override
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return newton_mode(self, clamped)

    @override
    def pooled(self, others: Sequence[Self]) -> Self:
        return geometric_mean([self, *others])

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
        return Lattice(centre - reach, step, 2 * reach + 1, near.dtype)
