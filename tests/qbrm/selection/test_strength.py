"""The guarantee on the strength: its test is valid, and over simulated fits it is broken in at most 5%."""

import numpy as np
import pytest
from scipy.stats import norm

from qbrm.selection.strength import LEVEL, MARGIN, STRENGTHS, accuracy_by_prompt, greatest_safe_strength, shown_positive

RUNS = 1000
# Three standard errors of a rate of 5% over that many runs.
TOLERANCE = 3 * np.sqrt(LEVEL * (1 - LEVEL) / RUNS)


@pytest.mark.parametrize("prompts", [30, 300, 3000])
@pytest.mark.parametrize("changed", [0.02, 0.3])
def test_a_mean_of_zero_is_shown_positive_in_at_most_one_of_twenty_samples(prompts, changed):
    generator = np.random.default_rng(prompts)
    share = np.array([(changed - MARGIN) / 2, 1 - changed, (changed + MARGIN) / 2])
    samples = generator.choice([1.0, 0.0, -1.0], size=(RUNS, prompts), p=share)
    assert abs(share @ [1, 0, -1] + MARGIN) < 1e-12
    wrong = np.mean([shown_positive(sample + MARGIN, MARGIN - 1, LEVEL) for sample in samples])
    assert wrong <= LEVEL + TOLERANCE


def test_a_mean_well_above_zero_is_shown_positive():
    generator = np.random.default_rng(0)
    samples = generator.choice([1.0, 0.0, -1.0], size=(200, 1500), p=[0.1, 0.85, 0.05])
    assert np.mean([shown_positive(sample + MARGIN, MARGIN - 1, LEVEL) for sample in samples]) > 0.9


def test_few_values_show_nothing_however_good_they_are():
    assert not shown_positive(np.full(2, 0.5), MARGIN - 1, LEVEL)


def test_the_whole_comes_first_and_then_the_others_up_to_the_first_that_is_not_shown_safe():
    asked = []

    def difference(strength):
        asked.append(strength)
        return np.full(500, -1.0 if strength in (0.5, 1.0) else 0.5)

    assert greatest_safe_strength(difference) == 0.25
    assert asked == [1.0, *(strength for strength in STRENGTHS if 0 < strength <= 0.5)]


def test_a_large_gain_is_shown_whole_on_few_prompts():
    """A hundred prompts cannot show that a small strength, which changes nothing, loses no point."""
    generator = np.random.default_rng(0)
    gains = generator.choice([1.0, 0.0, -1.0], size=(200, 100), p=[0.3, 0.65, 0.05])
    shown = [greatest_safe_strength(lambda s: s * gain if s == 1 else 0 * gain) for gain in gains]  # noqa: B023
    assert np.mean(np.array(shown) == 1) > 0.9
    assert greatest_safe_strength(lambda s: np.zeros(100)) == 0


def test_each_prompt_counts_once():
    right = np.array([1.0, 0.0, 1.0, 1.0])
    assert accuracy_by_prompt(right, np.array([7, 7, 2, 7])).tolist() == [1.0, pytest.approx(2 / 3)]


DIM, TRAINED = 8, 60


class World:
    """Gaussian responses whose pairs are decided by a direction; a base reward knows part of it."""

    def __init__(self, generator, known):
        self.generator = generator
        self.truth = np.append(generator.normal(size=DIM), 1.0) * np.append(np.full(DIM, 1 - known), 1.0)

    def pairs(self, count):
        """Differences of embedding and base reward between two responses, signed so that the chosen one is first."""
        x = self.generator.normal(size=(count, DIM + 1))
        better = self.generator.random(count) < norm.cdf(x @ self.truth)
        return np.where(better[:, None], x, -x)

    def accuracy(self, direction):
        """Of rewards along a direction, over all pairs: the mean of Phi(a) at the chosen sign, in closed form."""
        cosine = self.truth @ direction / (np.linalg.norm(self.truth) * np.linalg.norm(direction))
        size = np.linalg.norm(self.truth)
        # E over the truth's own margin t ~ N(0, size^2): Phi(t) decides, the direction agrees in sign with t partly.
        nodes = np.linspace(-8, 8, 2001)
        weight = norm.pdf(nodes) * (nodes[1] - nodes[0])
        agrees = norm.cdf(nodes * cosine / np.sqrt(max(1 - cosine**2, 1e-12)))
        right = norm.cdf(nodes * size)
        return float(weight @ (right * agrees + (1 - right) * (1 - agrees)))


def fitted(pairs, penalty=1.0):
    """A fit: ridge regression of "the first is better" on the embedding, added to the base reward."""
    x = pairs[:, :DIM]
    correction = np.linalg.solve(x.T @ x + penalty * np.eye(DIM), x.sum(0))
    return np.append(correction, 0.0)


BASE = np.append(np.zeros(DIM), 1.0)


def right_at(pairs, correction, strength):
    return (pairs @ (BASE + strength * correction) > 0).astype(float)


def broken(world, correction, strength):
    return world.accuracy(BASE + strength * correction) < world.accuracy(BASE) - MARGIN


@pytest.mark.parametrize("known", [0.99, 0.9, 0.6])
def test_over_a_thousand_simulated_fits_the_guarantee_is_broken_in_at_most_one_of_twenty(known):
    """Fits on 60 pairs are mostly harmful where the base knows nearly all, and helpful where it does not."""
    generator, wrong, harmful, strengths = np.random.default_rng(int(100 * known)), 0, 0, []
    for _ in range(RUNS):
        world = World(generator, known)
        correction, vouching = fitted(world.pairs(TRAINED)), world.pairs(1000)
        base = right_at(vouching, correction, 0.0)
        strength = greatest_safe_strength(lambda s: right_at(vouching, correction, s) - base)  # noqa: B023
        strengths.append(strength)
        wrong += strength > 0 and broken(world, correction, strength)
        harmful += broken(world, correction, 1.0)
    assert wrong / RUNS <= LEVEL
    assert harmful > RUNS / 2 if known == 0.99 else np.mean(strengths) > 0.1


PENALTIES = (1.0, 10.0, 100.0)


@pytest.mark.parametrize("known", [0.99, 0.9, 0.6])
@pytest.mark.parametrize("count", [120, 600])
def test_the_same_holds_of_cross_fitted_strengths_of_a_chosen_candidate(known, count):
    """Six groups choose among three fits and judge the chosen one by fits on the other five; the final is on all."""
    generator, wrong, group = np.random.default_rng(int(100 * known) + count), 0, np.arange(count) % 6
    for _ in range(RUNS):
        world = World(generator, known)
        pairs = world.pairs(count)
        base = right_at(pairs, BASE, 0.0)

        def right(penalty, strength, pairs=pairs):
            of_groups = np.empty(count)
            for judged in range(6):
                correction = fitted(pairs[group != judged], penalty)
                of_groups[group == judged] = right_at(pairs[group == judged], correction, strength)
            return of_groups

        chosen = max(PENALTIES, key=lambda penalty: right(penalty, 1.0).mean())
        strength = greatest_safe_strength(lambda s: right(chosen, s) - base)  # noqa: B023
        wrong += strength > 0 and broken(world, fitted(pairs, chosen), strength)
    assert wrong / RUNS <= LEVEL
