"""A device behind Kaiwu's `solve`: enough solutions of the right shape."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Num, Shaped

from qbrm.errors import InputError
from qbrm.interop.attempts import call_with_retries
from qbrm.interop.kaiwu_sdk import unattended


class KaiwuOptimizer(Protocol):
    """What Kaiwu's optimizers, its coherent Ising machine and its precision reducer have in common."""

    def solve(self, ising_matrix: Num[np.ndarray, "rows rows"]) -> Shaped[np.ndarray, "solutions rows"] | None:
        """Spins x of low energy :math:`-x^T K x`; None while the task is still being computed."""
        ...


class KaiwuDevice(NamedTuple):
    """An optimizer, and how often to call it.

    Attributes:
        optimizer: anything with `solve(ising_matrix)`.
        solves: how many calls may be made for one matrix until there are enough solutions.
        attempts: how often a call is tried that ends in a time-out or a lost connection, or is not finished.
        pause: seconds before the second attempt; each later pause is twice as long.
    """

    optimizer: KaiwuOptimizer
    solves: int
    attempts: int
    pause: float

    @property
    def name(self) -> str:
        """The optimizer's class."""
        return type(self.optimizer).__name__

    def solutions(self, matrix: Num[np.ndarray, "rows rows"], count: int) -> Shaped[np.ndarray, "solutions rows"]:
        """At least `count` solutions, from as many calls as it takes.

        Raises:
            InputError: if the device does not answer, fails, has no licence, or returns too few solutions or another
                shape.
        """
        solved: list[Shaped[np.ndarray, "solutions rows"]] = []
        for _ in range(self.solves):
            solved.append(self._solve(matrix))
            if sum(map(len, solved)) >= count:
                return np.concatenate(solved)
        raise InputError(
            f"{self.name} returned {sum(map(len, solved))} solutions in {self.solves} solves; expected {count}: "
            "raise its size_limit or sample_number."
        )

    def _solve(self, matrix: Num[np.ndarray, "rows rows"]) -> Shaped[np.ndarray, "solutions rows"]:
        def call() -> Shaped[np.ndarray, "solutions rows"] | None:
            with unattended():
                return self.optimizer.solve(matrix)

        solutions = np.asarray(call_with_retries(call, self.name, self.attempts, self.pause))
        if solutions.ndim != 2 or solutions.shape[1] != len(matrix):
            raise InputError(f"{self.name} returned shape {solutions.shape}; expected (solutions, {len(matrix)}).")
        return solutions
