"""A sampler of your own with dimod's interface, under a Boltzmann machine with coupled hidden spins."""

from __future__ import annotations

from typing import Any

import dimod
import numpy as np
import torch

from qbrm import CoupledBoltzmannMachine, DimodSampler, refine


class MetropolisSampler(dimod.Sampler):
    """Single-spin Metropolis updates at inverse temperature `beta`."""

    properties: dict[str, Any] = {}  # noqa: RUF012 - dimod's name
    parameters = {"num_reads": [], "sweeps": [], "beta": [], "seed": []}  # noqa: RUF012 - dimod's name

    def sample(
        self,
        bqm: dimod.BinaryQuadraticModel,
        num_reads: int = 1,
        sweeps: int = 50,
        beta: float = 1.0,
        seed: int | None = None,
    ) -> dimod.SampleSet:
        """Draw `num_reads` states; dimod's energy is h.s + s.J s over pairs."""
        random, (h, (row, column, value), *_) = np.random.default_rng(seed), bqm.spin.to_numpy_vectors(bqm.variables)
        couplings = np.zeros((len(h), len(h)))
        couplings[row, column] = couplings[column, row] = value
        states = random.choice([-1, 1], (num_reads, len(h)))
        for spin in np.tile(np.arange(len(h)), sweeps):
            rise = -2 * states[:, spin] * (h[spin] + states @ couplings[spin])
            states[:, spin] *= np.where(random.random(num_reads) < np.exp(-beta * rise.clip(0)), -1, 1)
        return dimod.SampleSet.from_samples_bqm((states, bqm.variables), bqm)


def main(pairs: int = 64, dim: int = 8, epochs: int = 1) -> torch.Tensor:
    """Train a small machine with it, and return refined rewards."""
    random = np.random.default_rng(0)
    embedding = random.standard_normal((2 * pairs, dim), dtype=np.float32)
    reward = random.standard_normal(2 * pairs, dtype=np.float32)
    chosen, rejected = np.arange(0, 2 * pairs, 2), np.arange(1, 2 * pairs, 2)

    sampler = DimodSampler(MetropolisSampler(), {"sweeps": 20}, beta=1.0)
    score = CoupledBoltzmannMachine(dim, hidden=4, sampler=sampler, samples=32)
    score.fit(embedding, reward, chosen, rejected, epochs=epochs)
    return refine(score, embedding, reward)


if __name__ == "__main__":
    print(main()[:5])
