"""What every sampler promises: hidden spins from a Boltzmann distribution at unit temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from qbrm.errors import InputError

Fields: TypeAlias = Float[Tensor, "batch spins"]
Couplings: TypeAlias = Float[Tensor, "*batch spins spins"]
Spins: TypeAlias = Float[Tensor, "batch samples spins"]


@runtime_checkable
class Sampler(Protocol):
    r"""Draws spins s in {-1, +1}^M of a batch of Ising problems.

    .. math:: p(s) \propto \exp\bigl(h^\top s + \tfrac12 s^\top J s\bigr)

    h are the fields and J the symmetric couplings with zero diagonal: signs as for a log-probability, not an energy.
    """

    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        """Draw `samples` spin states of every problem.

        Args:
            fields: h, one row per problem.
            couplings: J, one matrix for all problems or one per problem.
            samples: how many states of each.
            generator: source of randomness; a device that has its own ignores it and says so.

        Returns:
            States with values -1 and +1, in the fields' dtype.
        """


@runtime_checkable
class StatefulSampler(Sampler, Protocol):
    """A sampler whose state changes as it draws; a checkpoint of training keeps that state."""

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps, as tensors to be saved with a model."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state instead of the one now; from a new sampler's if it is empty."""


@runtime_checkable
class PersistentSampler(StatefulSampler, Protocol):
    """A sampler whose Markov chains can stay with the examples of a training set (Tieleman, 2008)."""

    def go_on(
        self,
        fields: Fields,
        couplings: Couplings,
        samples: int,
        generator: torch.Generator,
        example: Int[Tensor, " batch"],
    ) -> Spins:
        """Draw like `sample`, continuing the chains of `example`, the number of each problem's example."""


def identity_of(sampler: Sampler) -> str:
    """What checkpoints and model cards call a sampler: its attribute `name` if it has one, else its representation."""
    name = getattr(sampler, "name", None)
    return name if isinstance(name, str) else repr(sampler)


def check_samples(samples: Shaped[Tensor, "*shape"], fields: Fields, count: int, name: str) -> None:
    """Refuse what a sampler must not return. Raises InputError if a shape is wrong or a value not -1 or +1."""
    expected = (fields.shape[0], count, fields.shape[1])
    if samples.shape != expected:
        raise InputError(f"sampler {name} returned shape {tuple(samples.shape)}; expected {expected}.")
    wrong = samples.abs() != 1
    if wrong.any():
        raise InputError(f"sampler {name} returned {float(samples[wrong][0]):g} as a spin; expected -1 or +1.")
