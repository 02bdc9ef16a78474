"""Train a coupled Boltzmann machine with an object that has Kaiwu's interface, `solve(ising_matrix)`.

    python examples/kaiwu_sampler.py --samples 64

`Device` stands for a coherent Ising machine: it takes integers of 8 bits and draws at a temperature of its own, which
`KaiwuSampler` estimates and corrects. docs/kaiwu.md says how to use the machine of the Kaiwu SDK instead.
"""

import argparse

import numpy as np

from qbrm import CoupledBoltzmannMachine, FitSettings, KaiwuSampler, TrainingSettings, refine


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
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=64, help="solutions of one call")
    options = parser.parse_args()

    embedding = np.random.default_rng(0).standard_normal((2 * options.pairs, 4)).astype(np.float32)
    reward = embedding[:, 0].copy()  # what the reward model knows; the preferences depend on two coordinates
    rows, quality = np.arange(len(reward)).reshape(-1, 2), embedding[:, 0] + embedding[:, 1]
    rejected, chosen = np.take_along_axis(rows, quality[rows].argsort(axis=1), axis=1).T

    sampler = KaiwuSampler(Device(options.samples), bits=8)
    score = CoupledBoltzmannMachine(dim=4, hidden=4, sampler=sampler, samples=options.samples)
    training = TrainingSettings(epochs=options.epochs, batch_pairs=16, learning_rate=1e-2)
    score.fit(embedding, reward, chosen, rejected, settings=FitSettings(training=training))
    for name, values in (("base", reward), ("refined", refine(score, embedding, reward).numpy())):
        print(f"{name:8} accuracy {(values[chosen] > values[rejected]).mean():.3f}")
    print(
        f"device   effective inverse temperature {sampler.effective_beta:.2f}, rounding {sampler.distortion:.3f} nats"
    )


if __name__ == "__main__":
    main()
