"""What every energy score offers: clamp the embedding once, then ask for many rewards."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Self, override

from qbrm.energies.density import density, probability_greater
from qbrm.errors import InputError
from qbrm.fitting import Epoch, FitSettings, TrainableScore, TrainingSettings, fit_score
from qbrm.fitting.arrays import VALIDATION_SHARE, Array, fold_of_arrays
from qbrm.fitting.calibration import SMALLEST_PROBABILITY
from qbrm.fitting.trainable import Clamped as Clamped

logger = logging.getLogger(__name__)


class Lattice(NamedTuple):
    """Standardised rewards (first + k) * step, k = 0 to nodes - 1, that cover p(r | e), a window per example.

    All windows lie on one lattice, so that sums over pairs of examples depend on differences of whole numbers only.
    `first` has shape (batch,), or (1,) where one window serves all examples.
    """

    first: Int[Tensor, " #batch"]
    step: float
    nodes: int
    dtype: torch.dtype = torch.float32

    @property
    def rewards(self) -> Float[Tensor, "#batch nodes"]:
        """The nodes, in standardised units."""
        index = self.first[:, None] + torch.arange(self.nodes, device=self.first.device)
        return index.to(self.dtype) * self.step


class EnergyScore(TrainableScore):
    r"""An energy score f(e, r): an unnormalised log-density of the reward r given the embedding e.

    .. math:: p(r \mid e) = e^{f(e, r)} \Big/ \int e^{f(e, r')}\,dr'

    Inside, rewards are standardised: a reward r of the reward model is (r - reward_loc) / reward_scale here, both set
    by :meth:`standardise` from the training rewards. :meth:`forward` takes rewards in the reward model's units.

    Args:
        dim: embedding size D.

    Attributes:
        chunk_rows: examples that are refined at once, so that activations stay within some hundred megabytes.
        fit_settings: default settings of :meth:`fit`.
        refinement: default refinement, one of `qbrm.refinement.REFINEMENTS`.
    """

    chunk_rows: ClassVar[int] = 16_384
    fit_settings: ClassVar[FitSettings] = FitSettings(
        training=TrainingSettings(epochs=5, batch_pairs=128, learning_rate=2e-4, weight_decay=1e-2)
    )
    refinement: ClassVar[str] = "mode"
    reward_loc: Float[Tensor, ""]
    reward_scale: Float[Tensor, ""]

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("reward_loc", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.reward_loc.device

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments: with the state dict, all that rebuilds this score."""

    @override
    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())

    def log_normaliser(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        r"""Log of the integral of exp f(e, r) over the standardised reward.

        The trapezoidal sum of a mixture of normals of standard deviation s over a lattice of step h is off by a factor
        1 +- 2 exp(-2 pi^2 s^2 / h^2) at most, which is below float32's rounding at the default spacing.
        """
        lattice = self.lattice(clamped)
        return torch.logsumexp(self.at(clamped, lattice.rewards), -1) + math.log(lattice.step)

    def log_density(self, clamped: Clamped, reward: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Normalised log p(r | e) at n standardised rewards per example."""
        return self.at(clamped, reward) - self.log_normaliser(clamped)[:, None]

    @override
    def log_preference_of(self, clamped: Clamped) -> Float[Tensor, " pairs"]:
        pairs = len(clamped.mean) // 2
        sides = slice(pairs), slice(pairs, None)
        if self.draws:
            # Each side starts from the same seed: common random numbers, whose errors cancel in the difference.
            chosen, rejected = (density(self, clamped.rows(side)) for side in sides)
        else:
            both = density(self, clamped)
            chosen, rejected = (both.rows(side) for side in sides)
        return probability_greater(chosen, rejected).clamp_min(SMALLEST_PROBABILITY).log()

    @override
    def expected(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        return density(self, clamped).mean

    def log_mass(self, clamped: Clamped, lattice: Lattice) -> Float[Tensor, "batch nodes"]:
        """Log of p(r | e) times the step at the nodes of a lattice; the masses of each example sum to one."""
        return torch.log_softmax(self.at(clamped, lattice.rewards), -1)

    @torch.no_grad()
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        """The standardised reward of greatest p(r | e): the best node, moved to its parabola's vertex."""
        lattice = self.lattice(clamped, spacing=0.4)
        values = self.log_mass(clamped, lattice)
        best = values.argmax(-1, keepdim=True)
        inner = best.clamp(1, lattice.nodes - 2)
        left, middle, right = (values.gather(-1, inner + k) for k in (-1, 0, 1))
        bend = (2 * middle - left - right).clamp_min(1e-12)
        offset = torch.where(best == inner, ((right - left) / (2 * bend)).clamp(-1, 1), best - inner)
        return ((lattice.first + inner[:, 0]) + offset[:, 0]) * lattice.step

    @abstractmethod
    def lattice(self, clamped: Clamped, spacing: float = 0.8) -> Lattice:
        """Nodes that cover p(r | e), `spacing` apart in units of the sharpest feature that it can have."""

    def forward(
        self,
        embedding: Float[Tensor, "batch dim"],
        base_reward: Float[Tensor, " batch"],
        reward: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """f(e, r) at one reward per example, in the reward model's units."""
        return self.at(self.clamp(embedding, base_reward), self.to_standard(reward)[:, None])[:, 0]

    def standardise(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        """Fix the units from the training features; called once, before training."""
        self.reward_loc.copy_(base_reward.mean())
        self.reward_scale.copy_(base_reward.std().clamp_min(1e-6))

    def fit(
        self,
        embedding: Float[Array, "responses dim"],
        reward: Float[Array, " responses"],
        chosen: Int[Array, " pairs"],
        rejected: Int[Array, " pairs"],
        *,
        prompt: Int[Array, " responses"] | None = None,
        settings: FitSettings | None = None,
        epochs: int | None = None,
        validation_share: float = VALIDATION_SHARE,
        seed: int = 0,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Fit this score to preference pairs over arrays, from new initial weights.

        Some prompts are held out, to choose the epoch and the temperature. If no epoch beats the base rewards on them,
        a Boltzmann machine keeps the base rewards' order, and a warning is logged.

        Args:
            embedding: embeddings e.
            reward: base rewards r0.
            chosen: row of the chosen response of each pair.
            rejected: row of the rejected one.
            prompt: number of the prompt that each response answers; None: responses that pairs connect share a prompt.
            settings: how to fit; None for `fit_settings` of the class.
            epochs: passes over the pairs; None for what the settings say.
            validation_share: share of the prompts to hold out.
            seed: seeds split, initial fields, shuffling and noise.
            on_epoch: called after every epoch.

        Returns:
            This score, in evaluation mode.

        Raises:
            InputError: if the arrays do not fit together or to the score, or there is only one prompt.
            TrainingError: if training cannot go on.
            ValueError: if the settings ask for several members, which are not one score of the same size.
        """
        settings = settings or self.fit_settings
        if settings.members != 1:
            raise ValueError(f"{settings.members} members; expected one: see qbrm.fitting.fit_score for several")
        if epochs is not None:
            settings = replace(settings, training=replace(settings.training, epochs=epochs))
        fold = fold_of_arrays(
            embedding, reward, chosen, rejected, prompt, share=validation_share, seed=seed, like=self.reward_loc
        )
        if fold.pairs.dim != self.dim:
            raise InputError(f"embedding has {fold.pairs.dim} columns; expected {self.dim}, the score's dim.")
        fitted = fit_score(self.renewed, fold, settings, on_epoch=on_epoch)
        if fitted.kept_base:
            logger.warning(
                "%s: no epoch beat the base rewards on held-out prompts; their order is kept", type(self).__name__
            )
        self.become(fitted.score)
        self.prepare_evaluation(seed)
        return self.eval()

    def renewed(self, **changes: Any) -> Self:
        """An untrained score of the same settings but for `changes`; torch's global generator draws its weights."""
        return type(self)(**self.settings() | changes).to(self.reward_loc)

    def become(self, other: Self) -> None:
        """Take over the weights, units and gate of a score of the same settings."""
        self.load_state_dict(other.state_dict())

    def to_standard(self, reward: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """From the reward model's units to standardised ones."""
        return (reward - self.reward_loc) / self.reward_scale

    def from_standard(self, reward: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """From standardised units back to the reward model's."""
        return reward * self.reward_scale + self.reward_loc
