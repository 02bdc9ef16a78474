"""The Boltzmann machine with couplings between its hidden spins: no closed form, so it needs a sampler."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self, override

from qbrm.energies.base import Clamped, Lattice
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.energies.familiarity import GateRank
from qbrm.energies.log_cosh import log_cosh
from qbrm.errors import InputError
from qbrm.interop.ising import Ising
from qbrm.samplers import SAMPLERS
from qbrm.samplers.base import PersistentSampler, Sampler, StatefulSampler, check_samples, check_varied, identity_of
from qbrm.samplers.exact import LIMIT, ExactSampler

EVALUATION_SAMPLES = 256
# Attributes in which samplers with a temperature or precision of their own report on their last draw.
DEVICE_ESTIMATES = ("effective_beta", "residual", "distortion")


class Mixture(NamedTuple):
    """p(r | e) as a mixture of normals of one standard deviation: a weight and a mean per sampled hidden state."""

    log_weight: Float[Tensor, "batch samples"]
    mean: Float[Tensor, "batch samples"]
    deviation: Float[Tensor, ""]

    def log_density(self, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        """Log p(r | e) at n standardised rewards per example."""
        distance = (reward[:, None, :] - self.mean[:, :, None]) / self.deviation
        log_normal = -distance.square() / 2 - self.deviation.log() - math.log(2 * math.pi) / 2
        return torch.logsumexp(self.log_weight[:, :, None] + log_normal, 1)


class HiddenLayer(NamedTuple):
    """Hidden spins at r = 0: their fields, their couplings, and how r pulls on each."""

    fields: Float[Tensor, "batch spins"]
    couplings: Float[Tensor, "spins spins"]
    pull: Float[Tensor, " spins"]


class MonteCarlo(NamedTuple):
    """How far sampling leaves E[r | e] uncertain, from two independent draws: the spread, not the bias, of a sampler.

    Attributes:
        error: root mean square standard error over examples, in standardised units.
        effective_samples: independent states that would have the same error, at most those drawn.
    """

    error: float
    effective_samples: float


class CoupledBoltzmannMachine(BoltzmannScore):
    r"""Boltzmann machine with a Gaussian reward unit and couplings J between its hidden spins.

    .. math:: f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} - \frac{|u|^2 r^2}{2}
              + \log \sum_s e^{(W e + c + r u)^\top s + \frac12 s^\top J s} - M \log 2,
              \qquad \mu = r_0 + a^\top e + a_0

    Integrating r out leaves one Ising problem per example, with L = 1 / tau^2 + |u|^2 and m = mu / (tau^2 L):

    .. math:: p(s \mid e) \propto e^{(W e + c + m u)^\top s + \frac12 s^\top (J + u u^\top / L) s}, \qquad
              p(r \mid s, e) = N\bigl(r;\, m + u^\top s / L,\, 1 / L\bigr)

    so p(r | e) is the mean of those normals over samples of s (a Rao-Blackwell estimate, never a histogram of r), and
    any Ising sampler will do. In training, a sampler that keeps Markov chains continues those of each example
    (persistent contrastive divergence; Tieleman, 2008). Without a sampler the sum over s is exact, for up to 20 hidden
    spins. With J = 0 this is :class:`~qbrm.energies.rbm.RBM`. Boltzmann machines with couplings: Ackley et al. (1985),
    Cognitive Science 9, 147.

    Args:
        dim: embedding size D.
        hidden: number of hidden spins M.
        anchored: whether mu contains the base reward r0.
        coupling: initial length |u| of the couplings between reward and hidden spins.
        gate_rank: rank of the gate that a trained score has, or None for a score without one; see :meth:`close_gate`.
        sampler: what draws the hidden spins: a :class:`~qbrm.samplers.Sampler`, or a name in `SAMPLERS`, which is saved
            with a model; None to sum over them.
        samples: hidden states drawn per example.
        deep: units of the trunk phi(e) = tanh(V e + v) that takes the place of e in the fields and in mu; 0 for none.
        strength: share of the correction that is applied, 0 to 1.

    Attributes:
        sampler: draws the hidden spins; one that was given as an object is not saved.
        samples: hidden states drawn per example; fitting ends by setting it to `EVALUATION_SAMPLES`.
        most_summed: hidden spins over which it is trained without a sampler, at most.
        seed: seeds the draws; the same for both sides of a preference, so that their errors cancel.
    """

    chunk_rows: ClassVar[int] = 1024
    refinement: ClassVar[str] = "mean"
    most_summed: ClassVar[int] = LIMIT
    units: ClassVar[str] = "spins"

    def __init__(
        self,
        dim: int,
        hidden: int = 12,
        anchored: bool = True,
        coupling: float = 1.5,
        gate_rank: GateRank | None = None,
        sampler: str | Sampler | None = None,
        samples: int = 64,
        deep: int = 0,
        strength: float = 1.0,
    ) -> None:
        super().__init__(dim, hidden, 1, anchored, coupling, gate_rank, 1, deep, strength)
        self.upper_couplings = nn.Parameter(torch.zeros(hidden * (hidden - 1) // 2))
        self._sampler_name = sampler if isinstance(sampler, str) else None
        self.sampler: Sampler | None = SAMPLERS[sampler]() if isinstance(sampler, str) else sampler
        self.samples = samples
        self.seed = 0

    @override
    def settings(self) -> dict[str, Any]:
        named = self._sampler_name if self.sampler is not None else None
        return {**super().settings(), "sampler": named, "samples": self.samples}

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.sampler and identity_of(self.sampler)}"

    @override
    def scatter(self) -> None:
        """Start training from hidden units that differ in what they read.

        Raises:
            InputError: if there are too many of them to sum over in training, and no sampler.
        """
        if self.sampler is None and self.hidden > self.most_summed:
            raise InputError(
                f"{self.hidden} hidden {self.units} to train without a sampler; expected {self.most_summed} or fewer, "
                "or a sampler such as gibbs."
            )
        super().scatter()

    @property
    @override
    def draws(self) -> bool:
        return self.sampler is not None

    @override
    def reseed(self, generator: torch.Generator) -> None:
        self.seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))

    @override
    def prepare_evaluation(self, seed: int) -> None:
        self.samples, self.seed = EVALUATION_SAMPLES, seed

    @override
    def renewed(self, **changes: Any) -> Self:
        renewed = super().renewed(sampler=None, **changes)
        renewed.share_sampler(self)
        return renewed

    @override
    def share_sampler(self, other: Self | None) -> None:
        self.sampler, self._sampler_name = (other.sampler, other._sampler_name) if other else (None, None)

    @override
    def sampling_errors(
        self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]
    ) -> dict[str, float]:
        if self.sampler is None:
            return {}
        estimate = self.monte_carlo(self.clamp(embedding.to(self.W), base_reward.to(self.W)))
        error = estimate.error * float(self.reward_scale)
        device = {name: getattr(self.sampler, name, None) for name in DEVICE_ESTIMATES}
        known = {name: float(value) for name, value in device.items() if value is not None}
        return {"effective_samples": estimate.effective_samples, "monte_carlo_error": error, **known}

    def chains(self) -> dict[str, Tensor]:
        """What the sampler keeps from draw to draw: Markov chains of examples, or the scale of a device's problems."""
        return self.sampler.state_dict() if isinstance(self.sampler, StatefulSampler) else {}

    def load_chains(self, chains: dict[str, Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        if isinstance(self.sampler, StatefulSampler):
            self.sampler.load_state_dict(chains)

    @property
    def couplings(self) -> Float[Tensor, "hidden hidden"]:
        """J, symmetric with zero diagonal."""
        rows, columns = torch.triu_indices(self.hidden, self.hidden, 1, device=self.u.device)
        upper = self.u.new_zeros(self.hidden, self.hidden).index_put((rows, columns), self.upper_couplings)
        symmetric: Tensor = upper + upper.T
        return symmetric

    @override
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        clamped = super().clamp(embedding, base_reward)
        if clamped.familiarity is None:
            return clamped
        # A free energy with a weight is no longer that of spins which a sampler could draw: the fields fade instead.
        return clamped._replace(field=clamped.field * clamped.familiarity[:, None, None], familiarity=None)

    @override
    def hidden_free_energy(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        if not torch.is_grad_enabled() and not self.couplings.any():
            return log_cosh(torch.addcmul(clamped.field, reward[..., None], self.u)).sum(-1)
        fields = clamped.field + reward[..., None] * self.u
        free = ExactSampler().log_partition(fields.flatten(0, 1), self.couplings).view(fields.shape[:2])
        return free - self.hidden * math.log(2)

    def hidden_layer(self, clamped: Clamped) -> HiddenLayer:
        """What a sampler draws, at r = 0."""
        return HiddenLayer(clamped.field[:, 0], self.couplings, self.u[0])

    def hidden_problem(self, clamped: Clamped) -> Ising:
        """The hidden spins' problem once r is integrated out: fields W e + c + m u, couplings J + u u^T / L."""
        fields, couplings, pull = self.hidden_layer(clamped)
        induced = couplings + pull[:, None] * pull / self.stiffness
        centre = clamped.mean / (self.tau.square() * self.stiffness)
        return Ising(fields + centre[:, None] * pull, induced - induced.diag().diag())

    def mixture(self, clamped: Clamped, sampler: Sampler) -> Mixture:
        r"""p(r | e) from sampled hidden states, with the gradient of the exact p(r | e) in its weights.

        The weights are all 1 / samples, but differentiable: as importance weights of the samples under changed
        parameters, their gradient is (dE_i - mean dE) / samples with E the exponent of p(s | e). So any function of the
        mixture gets the score-function gradient of its expectation, with the mean as its baseline.
        """
        problem = self.hidden_problem(clamped)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            drawn = (problem.fields.detach(), problem.couplings.detach(), self.samples, generator)
            if self.training and clamped.row is not None and isinstance(sampler, PersistentSampler):
                spins = sampler.go_on(*drawn, clamped.row)
            else:
                spins = sampler.sample(*drawn)
            check_samples(spins, problem.fields, self.samples, type(sampler).__name__)
            check_varied(spins, *problem, type(sampler).__name__)
        exponent = torch.einsum("bsm,bm->bs", spins, problem.fields)
        exponent = exponent + torch.einsum("bsm,mk,bsk->bs", spins, problem.couplings, spins) / 2
        stiffness = self.stiffness
        centre = clamped.mean / (self.tau.square() * stiffness)
        mean = centre[:, None] + spins @ self.hidden_layer(clamped).pull / stiffness
        return Mixture(torch.log_softmax(exponent - exponent.detach(), 1), mean, stiffness.rsqrt())

    @torch.no_grad()
    def monte_carlo(self, clamped: Clamped) -> MonteCarlo:
        """Compare two draws with different seeds: needs no model of how states are correlated.

        Raises:
            ValueError: if the score has no sampler.
        """
        if self.sampler is None:
            raise ValueError("the score sums over its hidden spins; expected one with a sampler")
        first = self.mixture(clamped, self.sampler).mean
        self.seed += 1
        try:
            second = self.mixture(clamped, self.sampler).mean
        finally:
            self.seed -= 1
        error = (first.mean(1) - second.mean(1)).square().mean() / 2
        effective = float(first.var(1).mean() / error.clamp_min(1e-12))
        return MonteCarlo(float(error.sqrt()), min(effective, float(self.samples)))

    @override
    def log_density(self, clamped: Clamped, reward: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        if self.sampler is None:
            return super().log_density(clamped, reward)
        return self.mixture(clamped, self.sampler).log_density(reward)

    @override
    def log_mass(self, clamped: Clamped, lattice: Lattice) -> Float[Tensor, "batch nodes"]:
        if self.sampler is None:
            return super().log_mass(clamped, lattice)
        # The nodes resolve each normal of the mixture, so the masses already sum to one but for rounding.
        return torch.log_softmax(self.mixture(clamped, self.sampler).log_density(lattice.rewards), 1)

    @override
    @torch.no_grad()
    def lattice(self, clamped: Clamped, spacing: float = 0.8) -> Lattice:
        if not math.isfinite(self.stiffness):
            raise FloatingPointError(f"1 / tau^2 + |u|^2 is {float(self.stiffness)}")
        deviation = float(self.stiffness) ** -0.5
        step = spacing * deviation
        low, high = self.bracket(clamped)
        reach = math.ceil((float(self.pull) + 6 * deviation) / step)
        centre = ((low + high) / 2 / step).round().long()
        return Lattice(centre - reach, step, 2 * reach + 1, low.dtype)
