"""Fit a score to arrays, and refine rewards with it.

What a reward model gave for every response is in arrays here: embeddings (responses, dim) and rewards (responses,).
"""

from __future__ import annotations

import numpy as np

from qbrm import SemiQuantumRBM, refine


def main(prompts: int = 2000, dim: int = 16, epochs: int = 20) -> float:
    """Print the share of held-out pairs that base and refined rewards order correctly; return the gain."""
    random = np.random.default_rng(0)
    embedding = random.standard_normal((2 * prompts, dim), dtype=np.float32)
    weight = random.standard_normal(dim, dtype=np.float32)
    quality = embedding @ weight
    reward = embedding[:, ::2] @ weight[::2]  # a reward model that knows half of what makes a response good

    # Two responses to each prompt: rows 2i and 2i + 1. Pairs are row numbers.
    rows = np.arange(2 * prompts).reshape(prompts, 2)
    order = quality[rows].argsort(axis=1)
    rejected, chosen = np.take_along_axis(rows, order, axis=1).T
    half = prompts // 2

    score = SemiQuantumRBM(dim, hidden=16)
    score.fit(embedding, reward, chosen[:half], rejected[:half], epochs=epochs)
    refined = refine(score, embedding, reward).numpy()

    base, better = ((r[chosen[half:]] > r[rejected[half:]]).mean() for r in (reward, refined))
    print(f"base rewards {base:.1%} · refined rewards {better:.1%}")
    return float(better - base)


if __name__ == "__main__":
    main()
