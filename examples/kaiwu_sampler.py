"""Train a coupled Boltzmann machine with an object that has Kaiwu's interface, `solve(ising_matrix)`.

    python examples/kaiwu_sampler.py --samples 64

`Device` stands for a coherent Ising machine: it takes integers of 8 bits and draws at a temperature of its own, which
`KaiwuSampler` estimates and corrects. docs/kaiwu.md says how to use the machine of the Kaiwu SDK instead.
"""

import argparse

import numpy as np

from qbrm import CoupledBoltzmannMachine, KaiwuSampler, refine


class Device:
    """Spins x of energy -x^T K x, drawn at an inverse temperature that nobody is told."""

    def __init__(self, samples: int) -> None:
        self.samples, self.rng, self.beta = samples, np.random.default_rng(0), 0.02

    def solve(self, ising_matrix: np.ndarray) -> np.ndarray:
        """As many solutions as the device draws at once, one row each, the gauge spin last."""
        weights = self.beta * (ising_matrix + ising_matrix.T)
        np.fill_diagonal(weights, 0)
        spins = self.rng.choice([-1, 1], (self.samples, len(weights)))
        for spin in list(range(len(weights))) * 30:
            up = self.rng.random(self.samples) < 1 / (1 + np.exp(-2 * spins @ weights[spin]))
            spins[:, spin] = 2 * up - 1
        return spins


def main() -> None:
    """Fit a score whose hidden spins the device draws, and refine with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--samples", type=int, default=64, help="solutions of one call")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((2 * options.pairs, 8)).astype(np.float32)
    reward, rows = embedding[:, 0].copy(), np.arange(2 * options.pairs).reshape(-1, 2)
    rejected, chosen = np.take_along_axis(rows, embedding[:, 1][rows].argsort(axis=1), axis=1).T

    sampler = KaiwuSampler(Device(options.samples), bits=8)
    score = CoupledBoltzmannMachine(dim=8, hidden=4, sampler=sampler, samples=options.samples)
    score.fit(embedding, reward, chosen, rejected, epochs=1)
    refined = refine(score, embedding, reward).numpy()
    print(f"refined  accuracy {(refined[chosen] > refined[rejected]).mean():.3f}")
    print(f"device   effective inverse temperature {sampler.effective_beta:.2f}, rounding {sampler.distortion:.3f} nats")


if __name__ == "__main__":
    main()
