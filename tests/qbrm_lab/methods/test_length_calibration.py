"""The length-calibrated base: what is explained by length goes, everything else stays."""

import numpy as np
import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Task
from qbrm_lab.methods.length_calibration import regression
from qbrm_lab.responses import Features

pytestmark = pytest.mark.usefixtures("one_thread")


def calibrated(length, reward, others=None):
    """Rewards of `others`, or of the responses themselves, after calibration on all of them as one set of pairs."""
    half = len(length) // 2
    features = Features(torch.zeros(len(length), 1), reward, length)
    pairs = PairData(features.embedding, reward, torch.arange(half), torch.arange(half, 2 * half))
    task = Task(pairs, pairs, features, 0, None, measure=lambda rewards: {}, on_epoch=lambda epoch: None)
    return build_method("base:length").fit(task).rewards(features if others is None else others)


def responses(n=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 3000, (n,), generator=generator), torch.randn(n, generator=generator)


def test_a_reward_that_length_explains_is_level_afterwards():
    length, _ = responses()
    torch.testing.assert_close(calibrated(length, 2 + 0.003 * length.float()), torch.zeros(400), rtol=0, atol=1e-3)


def test_what_length_does_not_explain_stays():
    length, quality = responses()
    found = calibrated(length, quality + 3 * (length.float() / 3000) ** 2)
    assert float(torch.corrcoef(torch.stack([found, quality]))[0, 1]) > 0.98
    assert abs(float(torch.corrcoef(torch.stack([found, length.float()]))[0, 1])) < 0.1


def test_the_regression_is_a_line_through_the_nearer_half_weighted_by_distance():
    length, reward = (part.double().numpy() for part in responses(41))
    length = np.unique(length)
    reward = reward[: len(length)] / 10
    knots, found = regression(length, reward)
    place = len(knots) // 3
    distance = np.abs(length - knots[place])
    near = np.sort(distance)[int(0.5 * len(length) + 1e-10) - 1]
    weight = np.clip(1 - (distance / near) ** 3, 0, None) ** 3
    slope, level = np.polyfit(length - knots[place], reward, 1, w=np.sqrt(weight))
    assert found[place] == pytest.approx(level, abs=0.06)  # robust: outliers count less
    assert slope != 0


def test_beyond_the_lengths_seen_the_expectation_is_level():
    length, _ = responses()
    reward = 0.003 * length.float()
    far = Features(torch.zeros(2, 1), torch.zeros(2), torch.tensor([100_000, 200_000]))
    first, second = calibrated(length, reward, far)
    assert float(first) == pytest.approx(-float(reward.max()), rel=1e-2)
    assert first == second


def test_responses_of_one_length_keep_their_order():
    found = calibrated(torch.full((10,), 7), torch.arange(10.0))
    torch.testing.assert_close(found, torch.arange(10.0) - 4.5)


@pytest.mark.parametrize("often", [50, 60, 95])
def test_where_half_have_one_length_their_mean_is_expected_and_the_others_lie_between(often):
    length, _ = responses(100)
    length[:often] = 700
    truth = 0.003 * length.double()
    reward = truth + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    knots, expected = regression(length.double().numpy(), reward.numpy())
    assert expected[knots == 700] == pytest.approx(float(reward[:often].mean()))
    assert np.interp(length.numpy(), knots, expected) == pytest.approx(truth.numpy(), abs=0.6)


@pytest.mark.parametrize("lengths", [[5, 5, 5, 9, 9, 9], [1, 2, 3, 4]])
def test_few_lengths_or_responses_leave_rewards_finite(lengths):
    assert torch.isfinite(calibrated(torch.tensor(lengths), torch.arange(float(len(lengths))))).all()
