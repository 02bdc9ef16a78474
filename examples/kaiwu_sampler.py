"""A device of your own with Kaiwu's interface, `solve(ising_matrix)`, under coupled hidden spins."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int8, Num

from qbrm import CoupledBoltzmannMachine, KaiwuSampler


class Machine:
    """Draws from exp(beta x.K x) by Gibbs updates, as a coherent Ising machine at some temperature would.

    Kaiwu's matrix K has energy -x.K x over spins x, the last of which is the gauge spin.
    """

    def __init__(self, beta: float = 0.25, solutions: int = 256, seed: int = 0) -> None:
        self.beta, self.solutions, self.random = beta, solutions, np.random.default_rng(seed)

    def solve(self, ising_matrix: Num[np.ndarray, "spins spins"]) -> Int8[np.ndarray, "solutions spins"]:
        """Some states, as many as the machine gives for one task."""
        couplings = (ising_matrix + ising_matrix.T) * (1 - np.eye(len(ising_matrix)))
        states = self.random.choice([-1, 1], (self.solutions, len(ising_matrix)))
        for spin in np.tile(np.arange(len(ising_matrix)), 50):
            up = 1 / (1 + np.exp(-2 * self.beta * states @ couplings[spin]))
            states[:, spin] = np.where(self.random.random(self.solutions) < up, 1, -1)
        return states.astype(np.int8)


def main(samples: int = 256) -> torch.Tensor:
    """Sample hidden spins of a machine at 8 bits; return their means."""
    torch.manual_seed(0)
    sampler = KaiwuSampler(Machine(), beta=0.25, bits=8)
    score = CoupledBoltzmannMachine(dim=8, hidden=6, sampler=sampler)  # training and refinement draw from it

    fields, couplings = torch.randn(1, score.hidden), torch.randn(score.hidden, score.hidden).triu(1)
    spins = sampler.sample(fields, couplings + couplings.T, samples, torch.Generator().manual_seed(0))
    print(f"means {spins.mean(1)[0].tolist()} · effective beta {sampler.effective_beta:.2f}")
    print(f"rounding to 8 bits changed log-probabilities by {sampler.distortion:.2f} nats")
    return spins.mean(1)[0]


if __name__ == "__main__":
    main()
