"""Fit an energy score to embeddings and rewards in arrays, and refine the rewards.

    python examples/refine_arrays.py --pairs 2000

The rewards here know one direction of the embedding; the preferences depend on a second one too.
"""

import argparse

import numpy as np

from qbrm import FitSettings, SemiQuantumRBM, TrainingSettings, refine


def responses(pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, base rewards, and the rows of the chosen and the rejected response of every pair."""
    rng = np.random.default_rng(seed)
    embedding = rng.standard_normal((2 * pairs, 16)).astype(np.float32)
    quality = embedding[:, 0] + embedding[:, 1]
    first = np.arange(0, 2 * pairs, 2)
    second_wins = (quality[first + 1] > quality[first]).astype(int)
    return embedding, embedding[:, 0].copy(), first + second_wins, first + 1 - second_wins


def main() -> None:
    """Print the accuracy of base and refined rewards on pairs that were not trained on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    settings = FitSettings(training=TrainingSettings(epochs=options.epochs, batch_pairs=32, learning_rate=5e-3))
    score = SemiQuantumRBM(dim=16, hidden=8).fit(*responses(options.pairs, seed=0), settings=settings)

    embedding, reward, chosen, rejected = responses(1000, seed=1)
    refined = refine(score, embedding, reward).numpy()
    for name, values in (("base", reward), ("refined", refined)):
        print(f"{name:8} accuracy {(values[chosen] > values[rejected]).mean():.3f}")


if __name__ == "__main__":
    main()
