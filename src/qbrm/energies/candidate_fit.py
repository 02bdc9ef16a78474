"""Fitting a machine across candidates to which of them were chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError, TrainingError
from qbrm.samplers.exact import LIMIT

if TYPE_CHECKING:
    from qbrm.energies.candidates import CandidateMachine, Candidates, StandardSets

STEPS = 200
LEARNING_RATE = 0.05
# States of all sets in one step of training, and in one pass through the machine.
STEP_STATES, PASS_STATES = 2**22, 2**20
SAMPLED_STATES = 2**14  # what drawing a set's spins costs, in enumerated states
COUPLINGS = ("threshold", "together", "alike", "log_sharpness")


class ChosenSets(NamedTuple):
    """Sets of one size in a machine's units, and the share of each candidate in its set's choice.

    Attributes:
        sets: the sets.
        chosen: shares, summing to one in each set.
        number: of each set among those given.
    """

    sets: StandardSets
    chosen: Float[Tensor, "sets n"]
    number: list[int]

    @property
    def states(self) -> int:
        """States that are enumerated, or what drawing from them costs."""
        return len(self.chosen) * _states(self.sets.size)


def check_choices(sets: Sequence[Candidates], chosen: Sequence[Float[Tensor, " n"]]) -> None:
    """Refuse choices that do not belong to sets.

    Raises:
        InputError: if there are not as many of each, or a set's shares do not sum to one over its candidates.
    """
    if len(sets) != len(chosen):
        raise InputError(f"{len(sets)} sets and {len(chosen)} choices; expected as many of each.")
    for number, (one, share) in enumerate(zip(sets, chosen, strict=True)):
        if share.shape != one.reward.shape:
            raise InputError(f"choice {number} has shape {tuple(share.shape)}; expected {tuple(one.reward.shape)}.")
        if not (bool((share >= 0).all()) and math.isclose(float(share.sum()), 1, abs_tol=1e-5)):
            raise InputError(f"choice {number} sums to {float(share.sum()):g}; expected shares that sum to 1.")


def fit_candidates(
    machine: CandidateMachine,
    sets: Sequence[Candidates],
    chosen: Sequence[Float[Tensor, " n"]],
    coupled: bool,
    steps: int,
    seed: int,
) -> None:
    """Maximise the log-likelihood of the choices less |theta|^2 / 2, a normal prior; see :meth:`CandidateMachine.fit`.

    Raises:
        TrainingError: if it is no longer finite.
    """
    trained = {name: value for name, value in machine.named_parameters() if coupled or name not in COUPLINGS}
    with torch.no_grad():
        for value in machine.parameters():
            value.zero_()
    chunks = list(by_size(machine, sets, chosen))
    objective = _Objective(machine, list(trained.values()), coupled, sum(len(chunk.chosen) for chunk in chunks))
    generator = torch.Generator().manual_seed(seed)
    sampled = coupled and any(chunk.sets.size > LIMIT for chunk in chunks)
    if sampled or sum(chunk.states for chunk in chunks) > STEP_STATES:
        _descend(objective, _batches(chunks, generator), steps, generator)
    else:
        optimizer = torch.optim.LBFGS(objective.trained, max_iter=steps, line_search_fn="strong_wolfe")
        optimizer.step(lambda: objective.backward(chunks))  # type: ignore[no-untyped-call]
    objective.check()
    machine.seed = seed


def log_likelihood(odds: Float[Tensor, "sets n"], chosen: Float[Tensor, "sets n"]) -> Float[Tensor, " sets"]:
    """Log-probability of each set's choice by Luce's rule, from log-odds; the mean over choices that share it."""
    return (chosen * torch.log_softmax(odds, -1)).sum(-1)


class _Objective:
    """Minus the mean log-posterior of choices.

    Args:
        machine: the machine.
        trained: its parameters that are trained.
        coupled: whether its couplings are.
        sets: how many sets there are in all; the prior counts once for all of them.
    """

    def __init__(self, machine: CandidateMachine, trained: Sequence[Tensor], coupled: bool, sets: int) -> None:
        self.machine, self.trained, self._coupled, self._sets = machine, trained, coupled, sets
        self._last = 0.0

    def backward(self, chunks: Sequence[ChosenSets]) -> float:
        """The objective over some of the sets; leaves its gradient in the parameters."""
        for value in self.trained:
            value.grad = None
        count = sum(len(chunk.chosen) for chunk in chunks)
        total = 0.0
        for chunk in chunks:
            odds = self.machine.log_odds(chunk.sets) if self._coupled else 2 * self.machine.problem(chunk.sets).fields
            loss = -log_likelihood(odds, chunk.chosen).sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        prior = torch.stack([value.square() for value in self.trained]).sum() / (2 * self._sets)
        prior.backward()  # type: ignore[no-untyped-call]
        self._last = total + float(prior.detach())
        return self._last

    def check(self) -> None:
        """Raise TrainingError if the last value was not finite."""
        if not math.isfinite(self._last):
            raise TrainingError(f"the log-likelihood of {self._sets} sets of candidates is {-self._last}.")


def _descend(
    objective: _Objective, batches: Iterator[list[ChosenSets]], steps: int, generator: torch.Generator
) -> None:
    """Adam: for gradients that are estimated from samples, or from some of the sets."""
    optimizer = torch.optim.Adam(objective.trained, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _, batch in zip(range(steps), batches, strict=False):
        objective.machine.seed = int(torch.randint(2**31, (), generator=generator))
        objective.backward(batch)
        objective.check()
        optimizer.step()
        schedule.step()


def by_size(
    machine: CandidateMachine, sets: Sequence[Candidates], chosen: Sequence[Float[Tensor, " n"]]
) -> Iterator[ChosenSets]:
    """Sets of two or more candidates, those of one size together, as many as have `PASS_STATES` states."""
    numbers: dict[int, list[int]] = {}
    for number, one in enumerate(sets):
        if one.size > 1:
            numbers.setdefault(one.size, []).append(number)
    for size, of_size in numbers.items():
        most = max(1, PASS_STATES // _states(size))
        for start in range(0, len(of_size), most):
            rows = of_size[start : start + most]
            shares = torch.stack([chosen[row].double() for row in rows])
            yield ChosenSets(machine.standard([sets[row] for row in rows]), shares, rows)


def _batches(chunks: Sequence[ChosenSets], generator: torch.Generator) -> Iterator[list[ChosenSets]]:
    """Chunks of each step, without end: all of them, or in random order as many as `STEP_STATES` allow."""
    if sum(chunk.states for chunk in chunks) <= STEP_STATES:
        while True:
            yield list(chunks)
    batch: list[ChosenSets] = []
    while True:
        for number in torch.randperm(len(chunks), generator=generator).tolist():
            if batch and sum(chunk.states for chunk in batch) + chunks[number].states > STEP_STATES:
                yield batch
                batch = []
            batch.append(chunks[number])


def _states(size: int) -> int:
    return 2**size if size <= LIMIT else SAMPLED_STATES
