"""Best-of-n: the expected value of the winner, and its KL divergence from the policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.special import gammaln


def best_of_n(
    value: Float[np.ndarray, " pool"], proxy: Float[np.ndarray, " pool"], n: Sequence[int]
) -> Float64[np.ndarray, " sizes"]:
    r"""Expected value of the response that the proxy ranks first among n drawn from a pool without replacement.

    .. math:: \mathbb{E}_n = \sum_{i=n}^{N} \binom{i-1}{n-1} \Big/ \binom{N}{n} \; v_{(i)}

    v_(i) is the value of the response with the i-th lowest proxy reward. The sum runs over all draws at once, so it is
    exact for the pool and unbiased for the policy that the pool was drawn from. Nakano et al. (2021), arXiv 2112.09332,
    appendix I; Gao et al. (2023), arXiv 2210.10760. Responses that tie win equally often.

    Args:
        value: what each response is worth, such as its gold reward.
        proxy: what the choice is made by.
        n: numbers of responses to choose from, each from 1 to the pool's size.

    Raises:
        ValueError: if a number is outside that range.
    """
    size = len(proxy)
    if not all(1 <= drawn <= size for drawn in n):
        raise ValueError(f"n is {list(n)}; expected numbers from 1 to {size}, the size of the pool")
    ranked = _ranked(value, proxy)
    return np.array([winner_probability(size, drawn) @ ranked for drawn in n])


def winner_probability(size: int, n: int) -> Float64[np.ndarray, " size"]:
    """Probability of each of `size` responses, worst first, to be the best of n that are drawn without replacement."""
    worse = np.arange(n - 1, size)
    log_probability = _log_binomial(worse, n - 1) - _log_binomial(np.array(size), n)
    return np.concatenate([np.zeros(n - 1), np.exp(log_probability)])


def best_of_n_kl(n: Float[np.ndarray, " sizes"] | Sequence[int]) -> Float64[np.ndarray, " sizes"]:
    """KL divergence in nats, log n - (n - 1) / n, of the best-of-n policy from the one that it draws from.

    Exact where no two responses tie, as with continuous rewards, and an upper bound elsewhere. Stiennon et al. (2020),
    arXiv 2009.01325, appendix G.3; Beirami et al. (2024), arXiv 2401.01879.
    """
    size = np.asarray(n, dtype=np.float64)
    kl: Float64[np.ndarray, " sizes"] = np.log(size) - (size - 1) / size
    return kl


def _ranked(value: Float[np.ndarray, " pool"], proxy: Float[np.ndarray, " pool"]) -> Float64[np.ndarray, " pool"]:
    """Values from the lowest proxy reward to the highest; tied ones are each worth their mean."""
    _, group, sizes = np.unique(proxy, return_inverse=True, return_counts=True)
    of_group = np.bincount(group, value) / sizes
    return np.repeat(of_group, sizes)


def _log_binomial(n: Int[np.ndarray, "*shape"], k: int) -> Float64[np.ndarray, "*shape"]:
    logarithm: Float64[np.ndarray, "*shape"] = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return logarithm
