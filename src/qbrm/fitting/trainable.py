"""What fitting asks of a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from qbrm.data.pairs import Batch


class Clamped(NamedTuple):
    """A batch of examples whose embeddings are clamped: all that f(e, .) needs of e and r0.

    Attributes:
        field: the part of the score's first layer that reads e.
        mean: mean mu of the Gaussian reward unit, in standardised units; r0 for a score without one.
        base_reward: r0 in standardised units.
        row: number of each training example, for samplers that keep Markov chains per example; None where they do not.
        familiarity: weight g(e) of a gated score's hidden units; None for a score without a gate.
    """

    field: Float[Tensor, "batch ..."]
    mean: Float[Tensor, " batch"]
    base_reward: Float[Tensor, " batch"]
    row: Int[Tensor, " batch"] | None = None
    familiarity: Float[Tensor, " batch"] | None = None

    def rows(self, rows: Any) -> Clamped:
        """The examples that `rows` picks, as it would from a tensor's first axis."""
        return Clamped(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]


class TrainableScore(nn.Module, ABC):
    """A conditional density p(r | e) with parameters, as objectives and :func:`~qbrm.fitting.fit_score` see it.

    :class:`~qbrm.energies.EnergyScore` is one. Methods that are not abstract concern what only some scores have, such
    as a gate or a sampler: here they do nothing, or raise TypeError.

    Attributes:
        anchored: whether the untrained score keeps the base rewards' order.
    """

    anchored: bool = False

    @abstractmethod
    def standardise(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        """Fix the units from the training features; called once, before training."""

    @abstractmethod
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        """Do the work that depends on the embedding alone, once per example; rewards in the reward model's units."""

    @abstractmethod
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        """f(e, r) at n standardised rewards per example; one row of rewards serves all examples."""

    @abstractmethod
    def log_density(self, clamped: Clamped, reward: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Normalised log p(r | e) at n standardised rewards per example."""

    @abstractmethod
    def log_preference_of(self, clamped: Clamped) -> Float[Tensor, " pairs"]:
        """Log P(r_chosen > r_rejected) for pairs whose chosen responses are clamped first, then their rejected ones."""

    def log_preference(self, batch: Batch) -> Float[Tensor, " pairs"]:
        """Log P(r_chosen > r_rejected) for every pair of a batch."""
        return self.log_preference_of(self.clamp(*batch.examples())._replace(row=batch.row))

    @property
    def draws(self) -> bool:
        """Whether p(r | e) is sampled rather than computed."""
        return False

    def reseed(self, generator: torch.Generator) -> None:
        """Take a new seed for what the score draws itself."""

    def scatter(self) -> None:
        """Make the starting point of training random, where the identity is a bad one."""

    @property
    def log_temperature(self) -> float | None:
        """Logarithm of what scales the width of p(r | e); None for a score without such a parameter."""
        return None

    def set_log_temperature(self, value: float) -> None:
        """Set the temperature. Raises TypeError if the score has none."""
        raise TypeError(f"{type(self).__name__} has no temperature; expected a Boltzmann machine")

    def fitted_gate(self, train: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"]) -> nn.Module:
        """A gate for :meth:`set_gate`, open to embeddings like `train`; `held_out` sets its threshold.

        Raises:
            TypeError: if the score has no gate.
        """
        raise TypeError(f"{type(self).__name__} has no gate; expected a Boltzmann machine")

    def set_gate(self, gate: nn.Module | None) -> None:
        """Make the correction fade where a gate is closed, or nowhere. Raises TypeError if the score has no gate."""
        if gate is not None:
            raise TypeError(f"{type(self).__name__} has no gate; expected a Boltzmann machine")

    def centre(self, embedding: Float[Tensor, "n dim"], base_reward: Float[Tensor, " n"]) -> None:
        """Make the mean correction of these responses zero, with the gate open."""

    def set_strength(self, strength: float) -> None:
        """Apply that share of the correction, 0 to 1. Raises TypeError if the score can only apply it whole."""
        if strength != 1:
            raise TypeError(f"{type(self).__name__} has no strength; expected a Boltzmann machine")

    def pooled(self, others: Sequence[Self]) -> Self:
        """One score that stands for this one and the others. Raises TypeError if such scores have no mean."""
        name = type(self).__name__
        raise TypeError(f"{name} has no mean of its kind; expected a Boltzmann machine without couplings")

    def share_sampler(self, other: Self | None) -> None:
        """Draw with the sampler of another score, or compute exactly what it would draw if that is None."""

    def prepare_evaluation(self, seed: int) -> None:
        """Spend more on drawing than in training, from a fixed seed."""

    def sampling_errors(
        self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]
    ) -> dict[str, float]:
        """What sampling leaves uncertain of E[r | e], by name; empty for scores that draw nothing."""
        return {}
