"""Train a coupled Boltzmann machine with a dimod sampler of one's own.

    python examples/dimod_sampler.py --reads 16

`Metropolis` stands for any `dimod.Sampler`: D-Wave's machines, dwave-samplers, OpenJij, or a device of your own.
"""

import argparse

import dimod
import numpy as np

from qbrm import CoupledBoltzmannMachine, DimodSampler, refine


class Metropolis(dimod.Sampler):
    """Single-spin flips at unit temperature."""

    parameters = {"num_reads": [], "seed": []}
    properties = {}

    def sample(self, bqm, num_reads=1, seed=None, **parameters):
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
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--reads", type=int, default=16, help="states that are drawn per response")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((2 * options.pairs, 8)).astype(np.float32)
    reward, rows = embedding[:, 0].copy(), np.arange(2 * options.pairs).reshape(-1, 2)
    rejected, chosen = np.take_along_axis(rows, embedding[:, 1][rows].argsort(axis=1), axis=1).T

    sampler = DimodSampler(Metropolis(), beta=1.0)
    score = CoupledBoltzmannMachine(dim=8, hidden=4, sampler=sampler, samples=options.reads)
    score.fit(embedding, reward, chosen, rejected, epochs=1)
    refined = refine(score, embedding, reward).numpy()
    print(f"refined  accuracy {(refined[chosen] > refined[rejected]).mean():.3f}")
    print(f"sampler  {sampler}, effective inverse temperature {sampler.effective_beta:.2f}")


if __name__ == "__main__":
    main()
