"""What every sampler promises: hidden spins from a Boltzmann distribution at unit temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from qbrm.errors import InputError

# The least odds that a spin has flipped from which on equal samples are a fault: their chance is below 2^-samples.
TELLING_ODDS = 1.0
FEWEST_TELLING = 16

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


def check_varied(spins: Spins, fields: Fields, couplings: Couplings, name: str) -> None:
    """Refuse equal samples of a problem in which spins flip as easily as not.

    Raises:
        InputError: if a sampler returned one state 16 times or more where others are as likely.
    """
    samples = spins.shape[1]
    if samples < FEWEST_TELLING or not len(spins):
        return
    first = spins[:, :1]
    stuck = (spins == first).all(-1).all(-1)
    if not stuck.any():
        return
    local = fields[:, None] + first @ couplings
    flip = torch.logsumexp((-2 * first * local)[:, 0], -1)
    if (stuck & (flip > math.log(TELLING_ODDS))).any():
        told = f"{samples} equal samples of {spins.shape[2]} spins"
        raise InputError(f"sampler {name} returned {told}, of which others are as likely; expected different ones.")
