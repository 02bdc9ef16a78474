"""Rewards read off p(r | e), and how careful validation makes them."""

import pytest
import torch
from torch.nn import functional

from fixtures.scores import randomise
from qbrm.data.pairs import PairData
from qbrm.energies import SemiQuantumRBM
from qbrm.energies.density import density
from qbrm_lab.methods.base import Task
from qbrm_lab.methods.readings import LOWER_BOUND, MEAN, PESSIMISTIC, choose_levels, read_rewards
from qbrm_lab.responses import Features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def known():
    """A random machine, what it is validated on, and p(r | e) of all responses."""
    score = SemiQuantumRBM(3, hidden=4)
    randomise(score, 0, 0.7)
    score.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    embedding, reward = torch.randn(80, 3, generator=generator), torch.randn(80, generator=generator)
    features = Features(embedding, reward, torch.zeros(80, dtype=torch.long))
    chosen, rejected = torch.randint(80, (2, 60), generator=generator)
    validation = PairData(embedding, reward, chosen, rejected)
    task = Task(validation, validation, features, 0, None, lambda rewards: {}, lambda epoch: None)
    return score, task, density(score, score.clamp(embedding, reward))


def smallest_log_loss(margin):
    """Over all temperatures, by trying many."""
    return min(float(-functional.logsigmoid(margin.double() / t).mean()) for t in torch.logspace(-3, 3, 600))


@pytest.mark.parametrize(
    ("reading", "by_hand"),
    [(LOWER_BOUND, lambda p, z: p.mean - z * p.std), (PESSIMISTIC, lambda p, beta: p.pessimistic(beta))],
)
def test_the_level_is_the_one_that_makes_validation_likeliest(known, reading, by_hand):
    score, task, p = known
    level = choose_levels(score, task, [reading])[reading.name]
    rewards = {level: by_hand(p, level) for level in reading.levels}
    validation = task.validation
    losses = {
        level: smallest_log_loss(reward[validation.chosen] - reward[validation.rejected])
        for level, reward in rewards.items()
    }
    assert losses[level] <= min(losses.values()) + 2e-4  # the base's claims count as a few pairs more


def test_rewards_are_read_at_their_levels_in_the_reward_models_units(known):
    score, task, p = known
    found = read_rewards(score, task.features, {MEAN.name: 0.0, LOWER_BOUND.name: 2.0, PESSIMISTIC.name: 0.5})
    torch.testing.assert_close(found["mean"], score.from_standard(p.mean))
    torch.testing.assert_close(found["lcb"], score.from_standard(p.mean - 2 * p.std))
    torch.testing.assert_close(found["pessimistic"], score.from_standard(p.pessimistic(0.5)))
