"""A sampler of your own with dimod's interface, under a Boltzmann machine with coupled hidden spins."""

from __future__ import annotations

from typing import Any

import dimod
import numpy as np

from qbrm import CoupledBoltzmannMachine, DimodSampler, FitSettings, TrainingSettings, refine


class MetropolisSampler(dimod.Sampler):
    """Single-spin Metropolis updates at inverse temperature `beta`."""

    properties: dict[str, Any] = {}  # noqa: RUF012 - dimod's name
    parameters = {"num_reads": [], "sweeps": [], "beta": [], "seed": []}  # noqa: RUF012 - dimod's name

    def sample(
        self, bqm: dimod.BQM, num_reads: int = 1, sweeps: int = 50, beta: float = 1.0, seed: int | None = None
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


def main(pairs: int = 100, epochs: int = 5) -> float:
    """Train a small machine with it, print the accuracy of base and refined rewards, and return the refined one's."""
    embedding = np.random.default_rng(0).standard_normal((2 * pairs, 4), dtype=np.float32)
    reward = embedding[:, 0].copy()  # the reward model knows one of two coordinates that make a response good
    rows, quality = np.arange(2 * pairs).reshape(pairs, 2), embedding[:, 0] + embedding[:, 1]
    rejected, chosen = np.take_along_axis(rows, quality[rows].argsort(axis=1), axis=1).T

    sampler = DimodSampler(MetropolisSampler(), {"sweeps": 20}, beta=1.0)
    score = CoupledBoltzmannMachine(dim=4, hidden=4, sampler=sampler, samples=16)
    training = TrainingSettings(epochs=epochs, batch_pairs=16, learning_rate=1e-2)
    score.fit(embedding, reward, chosen, rejected, settings=FitSettings(training=training))

    refined = refine(score, embedding, reward).numpy()
    base, better = ((r[chosen] > r[rejected]).mean() for r in (reward, refined))
    print(f"base rewards {base:.1%} · refined rewards {better:.1%} · effective beta {sampler.effective_beta:.2f}")
    return float(better)


if __name__ == "__main__":
    main()
