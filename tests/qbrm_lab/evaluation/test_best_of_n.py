"""Best-of-n against every draw that there is, and its KL against the divergence itself."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from qbrm_lab.evaluation.best_of_n import best_of_n, best_of_n_kl, winner_probability

EVERY_SIZE = tuple(range(1, 8))


def mean_over_all_draws(value, proxy, n):
    """Every subset of n once; those that tie for the win share it."""
    winners = []
    for subset in map(list, combinations(range(len(proxy)), n)):
        best = np.flatnonzero(proxy[subset] == proxy[subset].max())
        winners.append(value[subset][best].mean())
    return np.mean(winners)


@pytest.mark.parametrize("values", [7, 3], ids=["distinct", "with ties"])
def test_it_is_the_mean_over_all_subsets(values):
    generator = np.random.default_rng(0)
    gold = generator.normal(size=7)
    proxy = generator.permutation(np.arange(7) % values).astype(float)
    expected = [mean_over_all_draws(gold, proxy, n) for n in EVERY_SIZE]
    np.testing.assert_allclose(best_of_n(gold, proxy, EVERY_SIZE), expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 137, 5_000, 19_999, 20_000])
def test_winner_probabilities_are_ratios_of_binomials_in_a_large_pool(n):
    size = 20_000
    found = winner_probability(size, n)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    ranks = [size, size - 1, max(n, size // 2)]
    exact = [comb(rank - 1, n - 1) * 10**40 // comb(size, n) / 10**40 for rank in ranks]  # whole numbers, any size
    np.testing.assert_allclose(found[np.array(ranks) - 1], exact, rtol=1e-8, atol=1e-30)


def test_one_response_is_the_mean_and_all_of_them_the_best():
    gold, proxy = np.random.default_rng(1).normal(size=(2, 50))
    np.testing.assert_allclose(best_of_n(gold, proxy, [1, 50]), [gold.mean(), gold[proxy.argmax()]], rtol=1e-9)


def test_choosing_by_gold_itself_only_gets_better():
    gold = np.random.default_rng(2).normal(size=1_000)
    curve = best_of_n(gold, gold, range(1, 1_001))
    assert (np.diff(curve) > 0).all()


def test_choosing_by_what_has_nothing_to_do_with_gold_gains_nothing():
    generator = np.random.default_rng(3)
    curves = [best_of_n(*generator.normal(size=(2, 500)), (1, 4, 16, 64)) for _ in range(1_000)]
    mean, error = np.mean(curves, 0), np.std(curves, 0) / np.sqrt(len(curves))
    assert (np.abs(mean) < 4 * error).all()
    assert (error < 0.02).all()  # an effect of a tenth of a deviation would have shown


@pytest.mark.parametrize("n", [0, 8])
def test_more_than_the_pool_holds_and_less_than_one_are_refused(n):
    with pytest.raises(ValueError, match="expected numbers from 1 to 7"):
        best_of_n(np.zeros(7), np.zeros(7), [n])


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_kl_is_the_divergence_from_a_uniform_policy(n):
    size = 1_000_000
    rank = np.arange(size + 1) / size
    wins = np.diff(rank**n)  # the best of n independent draws is at most at rank i with probability (i / size)^n
    wins = wins[wins > 0]
    divergence = (wins * np.log(wins * size)).sum()
    assert best_of_n_kl([n])[0] == pytest.approx(divergence, abs=1e-6)


def test_kl_bounds_the_divergence_of_a_small_pool_from_above():
    wins = np.diff((np.arange(6) / 5) ** 4)
    assert (wins * np.log(wins * 5)).sum() < best_of_n_kl([4])[0]
