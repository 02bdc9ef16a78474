"""Train a coupled Boltzmann machine with a dimod sampler of one's own.

    python examples/dimod_sampler.py --reads 16

`Metropolis` stands for any `dimod.Sampler`: D-Wave's machines, dwave-samplers, OpenJij, or a device of your own.
"""

import argparse
from typing import ClassVar

import dimod
import numpy as np

from qbrm import CoupledBoltzmannMachine, DimodSampler, FitSettings, TrainingSettings, refine


class Metropolis(dimod.Sampler):
    """Single-spin flips at unit temperature."""

    parameters: ClassVar = {"num_reads": [], "seed": []}
    properties: ClassVar = {}

    def sample(self, bqm: dimod.BQM, num_reads: int = 1, seed: int | None = None, **_: object) -> dimod.SampleSet:
        """Spin states of a binary quadratic model, each after 30 sweeps from a random start."""
        h, (rows, columns, weights), _ = bqm.spin.to_numpy_vectors(variable_order=list(bqm.variables))
        couplings = np.zeros((len(h), len(h)))
        couplings[rows, columns] = couplings[columns, rows] = weights
        rng = np.random.default_rng(seed)
        spins = rng.choice([-1, 1], (num_reads, len(h)))
        for spin in list(range(len(h))) * 30:
            rise = -2 * spins[:, spin] * (h[spin] + spins @ couplings[spin])
            spins[rng.random(num_reads) < np.exp(-rise.clip(0)), spin] *= -1
        return dimod.SampleSet.from_samples_bqm((spins.astype(np.int8), list(bqm.variables)), bqm)


def main() -> None:
    """Fit a score whose hidden spins the sampler draws, and refine with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--reads", type=int, default=16, help="states that are drawn per response")
    options = parser.parse_args()

    embedding = np.random.default_rng(0).standard_normal((2 * options.pairs, 4)).astype(np.float32)
    reward = embedding[:, 0].copy()  # what the reward model knows; the preferences depend on two coordinates
    rows, quality = np.arange(len(reward)).reshape(-1, 2), embedding[:, 0] + embedding[:, 1]
    rejected, chosen = np.take_along_axis(rows, quality[rows].argsort(axis=1), axis=1).T

    sampler = DimodSampler(Metropolis(), beta=1.0)
    score = CoupledBoltzmannMachine(dim=4, hidden=4, sampler=sampler, samples=options.reads)
    training = TrainingSettings(epochs=options.epochs, batch_pairs=16, learning_rate=1e-2)
    score.fit(embedding, reward, chosen, rejected, settings=FitSettings(training=training))
    for name, values in (("base", reward), ("refined", refine(score, embedding, reward).numpy())):
        print(f"{name:8} accuracy {(values[chosen] > values[rejected]).mean():.3f}")
    print(f"sampler  {sampler}, effective inverse temperature {sampler.effective_beta:.2f}")


if __name__ == "__main__":
    main()
