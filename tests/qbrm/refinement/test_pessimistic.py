"""The pessimistic reward: closed forms, limits, units."""

import math

import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.scores import randomise
from qbrm import EnergyRewardModel
from qbrm.energies import RBM
from qbrm.energies.density import pessimistic
from qbrm.preferences import Message
from qbrm.refinement import Pessimistic, refine

pytestmark = pytest.mark.usefixtures("one_thread")
BETAS = (0.3, 1.0, 5.0, 1e6)


def normal_machine(tau, loc=1.3, scale=2.1):
    """A machine without hidden units: r is normal around the base reward, with deviation tau standardised units."""
    score = RBM(2, hidden=3)
    with torch.no_grad():
        for parameter in (score.W, score.c, score.u, score.a, score.a0):
            parameter.zero_()
        score.log_tau.fill_(math.log(tau))
        score.reward_loc.fill_(loc)
        score.reward_scale.fill_(scale)
    return score.eval()


@pytest.mark.parametrize("beta", [0.6, 2.0, 1e4])
def test_of_a_normal_it_is_the_mean_less_half_the_variance_over_beta(beta):
    score, base = normal_machine(tau=0.8), torch.linspace(-4, 6, 11)
    refined = refine(score, torch.randn(11, 2), base, Pessimistic(beta))
    deviation = 0.8 * 2.1
    torch.testing.assert_close(refined, base - deviation**2 / (2 * beta), rtol=0, atol=2e-3)


@pytest.mark.parametrize("beta", [1e-3, 0.2, 1.0, 30.0, 1e5])
def test_of_two_rewards_it_is_the_logarithm_written_out(beta):
    mass, reward = torch.tensor([[0.25, 0.75]]), torch.tensor([[-1.0, 2.0]])
    # Around the lesser reward, so that nothing overflows.
    expected = -1.0 - beta * math.log(0.25 + 0.75 * math.exp(-3.0 / beta))
    assert float(pessimistic(mass, reward, beta)) == pytest.approx(expected, abs=2e-6)


def masses(seed=0, rows=5, nodes=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, nodes, generator=generator).softmax(-1), torch.linspace(-3, 4, nodes)[None]


def test_it_goes_from_the_least_reward_to_the_mean_as_beta_grows():
    mass, reward = masses()
    found = torch.stack([pessimistic(mass, reward, beta) for beta in (1e-4, *BETAS)])
    assert (found.diff(dim=0) > 0).all()
    torch.testing.assert_close(found[0], torch.full((5,), -3.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[-1], (mass * reward).sum(-1), rtol=0, atol=1e-5)


def test_a_reward_that_cannot_be_is_not_feared():
    mass = torch.tensor([[0.0, 0.5, 0.5]])
    assert float(pessimistic(mass, torch.tensor([[-100.0, 0.0, 1.0]]), 1e-4)) == pytest.approx(0, abs=1e-3)


def test_of_two_responses_with_one_mean_the_surer_one_is_better():
    sure, unsure = torch.tensor([[0.1, 0.8, 0.1]]), torch.tensor([[0.4, 0.2, 0.4]])
    reward = torch.tensor([[-1.0, 0.0, 1.0]])
    assert float(pessimistic(sure, reward, 1.0)) > float(pessimistic(unsure, reward, 1.0))


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan])
def test_beta_is_a_positive_number(beta):
    with pytest.raises(ValueError, match="expected a positive number"):
        pessimistic(*masses(), beta)


@pytest.mark.parametrize("beta", BETAS[1:])
def test_a_model_gives_what_refining_its_features_gives(beta):
    encoder = FakeEncoder(reward=1)
    score = RBM(encoder.dim, hidden=3)
    randomise(score, seed=3, size=0.7)
    score.reward_scale.fill_(2.1)
    responses = [f"because {number}" for number in range(6)]
    found = EnergyRewardModel(encoder, score).score(["why"] * 6, responses)
    embedded = encoder.embed([(Message("user", "why"),)] * 6, responses)
    expected = refine(score, embedded.embedding, embedded.reward, Pessimistic(beta))
    torch.testing.assert_close(found.pessimistic(beta), expected, rtol=1e-4, atol=1e-4)
