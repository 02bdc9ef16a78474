"""A Boltzmann machine across the candidates of one prompt: a spin for each, coupled by how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from qbrm.energies.candidate_fit import STEPS, check_choices, fit_candidates
from qbrm.energies.familiarity import principal_components
from qbrm.errors import InputError, check_known
from qbrm.samplers import SAMPLERS
from qbrm.samplers.base import Sampler
from qbrm.samplers.exact import LIMIT, ExactSampler
from qbrm.samplers.log_odds import sampled_log_odds

DEFAULT_SAMPLER = "gibbs"
MOST_DIRECTIONS = 32
# Directions in which sets vary less than this share of the largest variance are noise that whitening would blow up.
LEAST_VARIANCE = 1e-6


class Candidates(NamedTuple):
    """The candidates of one prompt, by what an ordinary score and their texts say of each.

    Attributes:
        reward: refined rewards, in the reward model's units.
        deviation: standard deviations of p(r | e), in the same units.
        length: logarithms of 1 + characters.
        embedding: embeddings e.
    """

    reward: Float[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    length: Float[Tensor, " n"]
    embedding: Float[Tensor, "n dim"]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.reward)

    def rows(self, rows: slice | Int[Tensor, " picked"]) -> Candidates:
        """Some of them, or all in another order."""
        return Candidates(*(part[rows] for part in self))


class StandardSets(NamedTuple):
    """Sets of one size in a machine's units; reward and length less their mean over the set.

    Attributes:
        reward: refined rewards.
        deviation: standard deviations of p(r | e).
        length: logarithms of lengths.
        distance: mean squared distances of whitened embeddings, by direction.
    """

    reward: Float[Tensor, "sets n"]
    deviation: Float[Tensor, "sets n"]
    length: Float[Tensor, "sets n"]
    distance: Float[Tensor, "sets n n"]

    @property
    def size(self) -> int:
        """Candidates in each set."""
        return self.reward.shape[1]

    def rows(self, rows: slice) -> StandardSets:
        """Some of the sets."""
        return StandardSets(*(part[rows] for part in self))


class CandidateProblem(NamedTuple):
    """The Ising problem over the spins of each set."""

    fields: Float[Tensor, "sets n"]
    couplings: Float[Tensor, "sets n n"]


class JudgedSet(NamedTuple):
    """What a machine makes of one set: refined rewards, in the reward model's units, and P(s_i = +1)."""

    reward: Float[Tensor, " n"]
    good: Float[Tensor, " n"]


class CandidateMachine(nn.Module):
    r"""A Boltzmann machine with one spin for each candidate of a prompt, +1 where it is good.

    .. math:: p(s) \propto \exp\Bigl(\sum_i h_i s_i + \sum_{i<j} J_{ij} s_i s_j\Bigr), \qquad
              h_i = \beta\,(m_i - \bar m - t) + \gamma\,(\ell_i - \bar\ell), \qquad
              J_{ij} = \frac{\sigma_i \sigma_j}{n - 1} (a + b K_{ij}), \qquad
              K_{ij} = e^{-\kappa |x_i - x_j|^2 / 2}

    m_i is the refined reward of candidate i, sigma_i the deviation of its p(r | e), l_i the logarithm of its length,
    all in units of the training sets; bars are means over the set. x_i is its embedding in the directions in which
    candidates of one prompt differ, whitened. Six numbers are trained: beta, t, gamma, a, b and kappa.

    The refined reward of a candidate in its set is that with which it would have the same marginal alone,

    .. math:: r^*_i = \bar m + t + \frac{1}{2\beta} \log\frac{P(s_i = +1)}{P(s_i = -1)},

    so without couplings and length it is m_i, and a single candidate keeps m_i whatever the parameters. The chosen one
    is drawn by Luce's rule (1959) from the marginals' odds; see the mathematics page for why it is not conditioned on
    exactly one spin being up. Boltzmann machines: Ackley et al. (1985), Cognitive Science 9, 147.

    Args:
        dim: embedding size D.
        directions: dimension of x; fitting sets it to as many as the training sets tell, 32 at most.
        sampler: draws the spins of sets of more than 20 candidates: a :class:`~qbrm.samplers.Sampler`, or a name in
            `SAMPLERS`, which is saved with a model. Smaller sets are enumerated.
        samples: states drawn for each such set.
        seed: seeds the draws; fitting sets it to its own.
    """

    basis: Float[Tensor, "dim directions"]
    reward_scale: Float[Tensor, ""]
    deviation_scale: Float[Tensor, ""]
    length_scale: Float[Tensor, ""]
    log_slope: nn.Parameter
    threshold: nn.Parameter
    longer: nn.Parameter
    together: nn.Parameter
    alike: nn.Parameter
    log_sharpness: nn.Parameter

    def __init__(
        self,
        dim: int,
        directions: int = 0,
        sampler: str | Sampler = DEFAULT_SAMPLER,
        samples: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(sampler, str):
            check_known("sampler", sampler, SAMPLERS)
        self.dim, self.samples, self.seed = dim, samples, seed
        self.named = sampler if isinstance(sampler, str) else None
        self._sampler = None if isinstance(sampler, str) else sampler
        for unit in ("reward_scale", "deviation_scale", "length_scale"):
            self.register_buffer(unit, torch.ones((), dtype=torch.float64))
        self.register_buffer("basis", torch.zeros(dim, directions, dtype=torch.float64))
        for name in ("log_slope", "threshold", "longer", "together", "alike", "log_sharpness"):
            self.register_parameter(name, nn.Parameter(torch.zeros((), dtype=torch.float64)))

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments; a sampler that was given as an object is not among them."""
        shape = {"dim": self.dim, "directions": self.basis.shape[1]}
        return {**shape, "sampler": self.named or DEFAULT_SAMPLER, "samples": self.samples, "seed": self.seed}

    @property
    def sampler(self) -> Sampler:
        """What draws the spins of large sets; a named one is made when it is first needed."""
        if self._sampler is None:
            self._sampler = SAMPLERS[self.named or DEFAULT_SAMPLER]()
        return self._sampler

    @property
    def slope(self) -> Float[Tensor, ""]:
        """beta: field per unit of refined reward, in the training sets' units."""
        return self.log_slope.exp()

    @property
    def is_coupled(self) -> bool:
        """Whether any two candidates are coupled."""
        return bool(self.together.detach() != 0) or bool(self.alike.detach() != 0)

    def standardise(self, sets: Sequence[Candidates]) -> None:
        """Fix the units from the training sets: what a reward, a length and an embedding differ by within a set.

        Raises:
            InputError: if no set has two candidates.
        """
        several = [one for one in sets if one.size > 1]
        if not several:
            raise InputError(f"{len(sets)} sets of candidates, none of two or more; expected sets to choose from.")
        for unit, values in (
            (self.reward_scale, [_centred(one.reward) for one in several]),
            (self.length_scale, [_centred(one.length) for one in several]),
        ):
            spread = torch.cat(values).square().mean().sqrt()
            unit.copy_(spread if spread > 0 else torch.ones_like(spread))
        deviation = torch.cat([one.deviation.double() for one in several]).mean()
        self.deviation_scale.copy_(deviation if deviation > 0 else torch.ones_like(deviation))
        self.basis = _whitening(torch.cat([_centred(one.embedding) for one in several]), len(several)).to(self.basis)

    def standard(self, sets: Sequence[Candidates]) -> StandardSets:
        """Sets of one size in the machine's units."""
        rewards = torch.stack([_centred(one.reward) for one in sets]) / self.reward_scale
        lengths = torch.stack([_centred(one.length) for one in sets]) / self.length_scale
        deviations = torch.stack([one.deviation.double() for one in sets]) / self.deviation_scale
        positions = torch.stack([one.embedding.double() @ self.basis for one in sets])
        distances = torch.cdist(positions, positions).square() / max(1, self.basis.shape[1])
        return StandardSets(rewards, deviations, lengths, distances)

    def problem(self, sets: StandardSets) -> CandidateProblem:
        """Fields and couplings of each set."""
        fields = self.slope * (sets.reward - self.threshold) + self.longer * sets.length
        alike = torch.exp(-self.log_sharpness.exp() * sets.distance / 2)
        scale = sets.deviation[:, :, None] * sets.deviation[:, None] / max(1, sets.size - 1)
        couplings = (scale * (self.together + self.alike * alike)).triu(1)
        return CandidateProblem(fields, couplings + couplings.mT)

    def log_odds(self, sets: StandardSets) -> Float[Tensor, "sets n"]:
        """Log of P(s_i = +1) / P(s_i = -1) for every candidate of every set, with its gradient.

        Raises:
            InputError: if fields or couplings are not finite, or a sampler returns what it must not.
        """
        fields, couplings = self.problem(sets)
        for name, values in (("field", fields), ("coupling", couplings)):
            if not torch.isfinite(values).all():
                bad = float(values.detach()[~torch.isfinite(values)][0])
                raise InputError(f"a {name} among {sets.size} candidates is {bad}; expected finite numbers.")
        if not (torch.is_grad_enabled() or self.is_coupled):
            return 2 * fields
        if sets.size <= LIMIT:
            return ExactSampler().log_odds(fields, couplings)
        generator = torch.Generator().manual_seed(self.seed)
        return sampled_log_odds(self.sampler, fields, couplings, self.samples, generator)

    @torch.no_grad()
    def judge(self, candidates: Candidates) -> JudgedSet:
        """Refined reward of each candidate in its set, and the probability that it is good.

        Raises:
            InputError: as :meth:`log_odds`; or if there is no candidate, or its embedding is of another size.
        """
        if candidates.size == 0:
            raise InputError("no candidates; expected one or more.")
        if candidates.embedding.shape[1] != self.dim:
            raise InputError(f"embeddings of size {candidates.embedding.shape[1]}; expected {self.dim}.")
        odds = self.log_odds(self.standard([candidates]))[0]
        alone = (odds / (2 * self.slope) + self.threshold) * self.reward_scale
        reward = candidates.reward.double()
        refined = reward.mean() + alone if candidates.size > 1 else reward
        return JudgedSet(refined, torch.sigmoid(odds))

    def fit(
        self,
        sets: Sequence[Candidates],
        chosen: Sequence[Float[Tensor, " n"]],
        *,
        coupled: bool = True,
        steps: int = STEPS,
        seed: int = 0,
    ) -> Self:
        """Fit to which candidate of each set was chosen, by maximum likelihood with a normal prior around no couplings.

        Sets of up to 20 candidates are enumerated, and L-BFGS follows the exact gradient. Where there are larger ones,
        whose gradients are estimated from samples, or very many states, Adam takes new samples or other sets in every
        step.

        Args:
            sets: the sets; those of one candidate tell nothing and are left out.
            chosen: share of each candidate in its set's choice: one for the chosen one, or parts of one where several
                are as good.
            coupled: whether candidates may be coupled; without it, the machine is a pointwise score of reward and
                length.
            steps: of the optimiser.
            seed: seeds the order of the sets and the draws.

        Returns:
            This machine.

        Raises:
            InputError: if sets and choices do not fit together, or no set has two candidates.
            TrainingError: if the likelihood is no longer finite.
        """
        check_choices(sets, chosen)
        self.standardise(sets)
        fit_candidates(self, sets, chosen, coupled, steps, seed)
        return self


def _centred(values: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    values = values.double()
    return values - values.mean(0)


def _whitening(differences: Float[Tensor, "rows dim"], sets: int) -> Float[Tensor, "dim directions"]:
    """Main directions in which candidates differ from their set's mean, scaled to variance one."""
    variances, directions = principal_components(differences)
    kept = min(MOST_DIRECTIONS, len(differences) - sets, int((variances > LEAST_VARIANCE * variances[0]).sum()))
    of_sample = variances[:kept] * len(differences) / (len(differences) - sets)
    return directions[:kept].T / of_sample.sqrt()
