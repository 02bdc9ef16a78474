"""Ways to choose among the candidates of one prompt: the machine across them, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.candidate_fit import ChosenSets, by_size, log_likelihood
from qbrm.energies.candidates import CandidateMachine, Candidates, StandardSets

Shares: TypeAlias = Sequence[Float[Tensor, " n"]]
LogOdds: TypeAlias = Callable[[Sequence[Candidates]], list[Float[Tensor, " n"]]]
Describe: TypeAlias = Callable[[StandardSets], Float[Tensor, "sets n features"]]

# Distances at which a neighbour's reward counts e^(-1/2) times as much, in units of candidates' own spread.
BANDWIDTHS = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
VALIDATION_SHARE = 0.2
STEPS = 200


def machine(sets: Sequence[Candidates], chosen: Shares, seed: int) -> CandidateMachine:
    """The Boltzmann machine across candidates."""
    return CandidateMachine(sets[0].embedding.shape[1]).fit(sets, chosen, seed=seed)


@dataclass(frozen=True)
class LinearChoice:
    """Luce's rule on a linear function of features: log-odds of each candidate that depend on no other's choice.

    Attributes:
        units: gives sets their units, as in the machine.
        describe: features of each candidate.
        weight: of the features.
    """

    units: CandidateMachine
    describe: Describe
    weight: Float[Tensor, " features"]

    def log_odds(self, sets: Sequence[Candidates]) -> list[Float[Tensor, " n"]]:
        """Of the candidates of every set."""
        return [self.of_standard(self.units.standard([one]))[0] for one in sets]

    def of_standard(self, sets: StandardSets) -> Float[Tensor, "sets n"]:
        """Of sets of one size in the machine's units."""
        return self.describe(sets) @ self.weight


def fit_linear(units: CandidateMachine, sets: Sequence[ChosenSets], describe: Describe) -> LinearChoice:
    """Fit by the machine's likelihood, with its prior."""
    features = [(describe(group.sets), group.chosen) for group in sets]
    count = sum(len(chosen) for _, chosen in features)
    weight = torch.zeros(features[0][0].shape[-1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=STEPS, line_search_fn="strong_wolfe")

    def backward() -> Tensor:
        optimizer.zero_grad()
        likelihood = torch.stack([log_likelihood(of @ weight, chosen).sum() for of, chosen in features]).sum()
        loss: Tensor = (weight.square().sum() / 2 - likelihood) / count
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(backward)  # type: ignore[no-untyped-call]
    return LinearChoice(units, describe, weight.detach())


def pointwise(sets: StandardSets) -> Float[Tensor, "sets n 2"]:
    """Reward and length: the machine without couplings."""
    return torch.stack([sets.reward, sets.length], -1)


def with_centroid(sets: StandardSets) -> Float[Tensor, "sets n 4"]:
    """Reward, length, closeness to the set's centroid, and mean similarity to the others."""
    closeness = -sets.distance.mean(-1)  # less the squared distance from the centroid, but for what all share
    similar = (torch.exp(-sets.distance / 2).sum(-1) - 1) / (sets.size - 1)
    more = torch.stack([closeness, similar], -1)
    return torch.cat([pointwise(sets), more - more.mean(1, keepdim=True)], -1)


@dataclass(frozen=True)
class Smoothed:
    """Reward, averaged over similar candidates (Nadaraya, 1964; Watson, 1964), and length."""

    bandwidth: float

    def __call__(self, sets: StandardSets) -> Float[Tensor, "sets n 2"]:
        """The features of each candidate."""
        if self.bandwidth == 0:
            return pointwise(sets)
        kernel = torch.softmax(-sets.distance / (2 * self.bandwidth**2), -1)
        return torch.stack([(kernel @ sets.reward[..., None])[..., 0], sets.length], -1)


@dataclass(frozen=True)
class Rivals:
    """What the machine has to beat, fitted to the same sets."""

    pointwise: LinearChoice
    centroid: LinearChoice
    smoothing: LinearChoice


def fit_rivals(sets: Sequence[Candidates], chosen: Shares, seed: int) -> Rivals:
    """Fit all of them; a fifth of the sets chooses the smoothing's bandwidth, which is then fitted to all."""
    units = CandidateMachine(sets[0].embedding.shape[1])
    units.standardise(sets)
    groups = list(by_size(units, sets, chosen))
    smoothing = Smoothed(_bandwidth(units, sets, chosen, seed))
    return Rivals(*(fit_linear(units, groups, describe) for describe in (pointwise, with_centroid, smoothing)))


def _bandwidth(units: CandidateMachine, sets: Sequence[Candidates], chosen: Shares, seed: int) -> float:
    order = torch.randperm(len(sets), generator=torch.Generator().manual_seed(seed)).tolist()
    held = max(1, round(VALIDATION_SHARE * len(sets)))
    validation, training = (
        list(by_size(units, [sets[row] for row in rows], [chosen[row] for row in rows]))
        for rows in (order[:held], order[held:])
    )

    def likelihood(bandwidth: float) -> float:
        fitted = fit_linear(units, training, Smoothed(bandwidth))
        return sum(float(log_likelihood(fitted.of_standard(one.sets), one.chosen).sum()) for one in validation)

    return max(BANDWIDTHS, key=likelihood)
