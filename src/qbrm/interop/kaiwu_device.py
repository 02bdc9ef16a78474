"""A device behind Kaiwu's `solve`: attempts, pauses, and enough solutions of the right shape."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Num, Shaped

from qbrm.errors import InputError
from qbrm.interop.kaiwu_sdk import unattended

logger = logging.getLogger(__name__)

INTERRUPTIONS = ("TimeoutError", "TimeoutException", "Timeout", "ConnectionError", "TransportError")


class KaiwuOptimizer(Protocol):
    """What Kaiwu's optimizers, its coherent Ising machine and its precision reducer have in common."""

    def solve(self, ising_matrix: Num[np.ndarray, "rows rows"]) -> Shaped[np.ndarray, "solutions rows"] | None:
        """Spins x of low energy :math:`-x^T K x`; None while the task is still being computed."""
        ...


class KaiwuDevice(NamedTuple):
    """An optimizer, and how patient to be with it.

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
        found: list[Shaped[np.ndarray, "solutions rows"]] = []
        for _ in range(self.solves):
            found.append(self._solve(matrix))
            if sum(map(len, found)) >= count:
                return np.concatenate(found)
        raise InputError(
            f"{self.name} returned {sum(map(len, found))} solutions in {self.solves} solves; expected {count}: "
            "raise its size_limit or sample_number."
        )

    def _solve(self, matrix: Num[np.ndarray, "rows rows"]) -> Shaped[np.ndarray, "solutions rows"]:
        solutions = np.asarray(self._insist(matrix))
        if solutions.ndim != 2 or solutions.shape[1] != len(matrix):
            raise InputError(f"{self.name} returned shape {solutions.shape}; expected (solutions, {len(matrix)}).")
        return solutions

    def _insist(self, matrix: Num[np.ndarray, "rows rows"]) -> Shaped[np.ndarray, "solutions rows"]:
        for attempt in range(self.attempts):
            try:
                with unattended():
                    solutions = self.optimizer.solve(matrix)
            except InputError:
                raise
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                if not _is_interruption(error):
                    raise InputError(f"{self.name} failed ({reason}).") from error
            else:
                if solutions is not None:
                    return solutions
                reason = "the task is not finished"
            if attempt + 1 < self.attempts:
                self._wait(self.pause * 2**attempt, reason)
        raise InputError(
            f"{self.name} gave no solution in {self.attempts} attempts ({reason}); nothing is lost, try again."
        )

    def _wait(self, seconds: float, reason: str) -> None:
        logger.warning("%s: %s; trying again in %g s", self.name, reason, seconds)
        time.sleep(seconds)


def _is_interruption(error: Exception) -> bool:
    """Whether a later attempt may succeed. By name: the SDK's requests and httpx are needed for nothing else."""
    return any(kind.__name__ in INTERRUPTIONS for kind in type(error).__mro__)
