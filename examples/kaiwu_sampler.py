"""A device of your own with Kaiwu's interface, `solve(ising_matrix)`, under coupled hidden spins."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int8, Num

from qbrm import CoupledBoltzmannMachine, FitSettings, KaiwuSampler, TrainingSettings, refine


class Machine:
    """Draws from exp(beta x.K x) by Gibbs updates, as a coherent Ising machine at some temperature would.

    Kaiwu's matrix K has energy -x.K x over spins x, the last of which is the gauge spin.
    """

    def __init__(self, beta: float = 0.02, solutions: int = 64, seed: int = 0) -> None:
        self.beta, self.solutions, self.random = beta, solutions, np.random.default_rng(seed)

    def solve(self, ising_matrix: Num[np.ndarray, "spins spins"]) -> Int8[np.ndarray, "solutions spins"]:
        """Some states, as many as the machine gives for one task."""
        couplings = (ising_matrix + ising_matrix.T) * (1 - np.eye(len(ising_matrix)))
        states = self.random.choice([-1, 1], (self.solutions, len(ising_matrix)))
        for spin in np.tile(np.arange(len(ising_matrix)), 50):
            up = 1 / (1 + np.exp(-2 * self.beta * states @ couplings[spin]))
            states[:, spin] = np.where(self.random.random(self.solutions) < up, 1, -1)
        return states.astype(np.int8)


def main(pairs: int = 100, epochs: int = 5) -> float:
    """Train a small machine at 8 bits, print the accuracy of base and refined rewards, and return the refined one's."""
    embedding = np.random.default_rng(0).standard_normal((2 * pairs, 4), dtype=np.float32)
    reward = embedding[:, 0].copy()  # the reward model knows one of two coordinates that make a response good
    rows, quality = np.arange(2 * pairs).reshape(pairs, 2), embedding[:, 0] + embedding[:, 1]
    rejected, chosen = np.take_along_axis(rows, quality[rows].argsort(axis=1), axis=1).T

    sampler = KaiwuSampler(Machine(), bits=8)  # the machine's temperature is estimated
    score = CoupledBoltzmannMachine(dim=4, hidden=4, sampler=sampler)
    training = TrainingSettings(epochs=epochs, batch_pairs=16, learning_rate=1e-2)
    score.fit(embedding, reward, chosen, rejected, settings=FitSettings(training=training))

    refined = refine(score, embedding, reward).numpy()
    base, better = ((r[chosen] > r[rejected]).mean() for r in (reward, refined))
    print(f"base rewards {base:.1%} · refined rewards {better:.1%}")
    print(f"effective beta {sampler.effective_beta:.2f} · rounding error {sampler.distortion:.2f} nats")
    return float(better)


if __name__ == "__main__":
    main()
