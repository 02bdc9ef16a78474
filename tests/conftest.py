"""What the tests of the science share: random scores, and the formulas of design section 3 written a second time."""

import os

import pytest
import torch
from torch import nn

from qbrm.energies import EBRM, RBM, SemiQuantumRBM
from qbrm.energies.ebrm import HalfDropout

# The plugin that conversions are tested against reports its usage otherwise, where the SDK is installed too.
os.environ["KPP_STATS_ENABLED"] = "false"


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much where the other core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=["rbm", "sqrbm-1", "sqrbm-2", "sqrbm-3"])
def machine(request):
    """Builds a Boltzmann score whose parameters and units are all random and none zero, in double precision."""

    def build(dim=3, hidden=4, seed=0, size=0.7, units=True, **settings):
        kind, _, axes = request.param.partition("-")
        axes_setting = {"axes": int(axes)} if axes else {}
        score = {"rbm": RBM, "sqrbm": SemiQuantumRBM}[kind](dim, hidden=hidden, **axes_setting, **settings)
        randomise(score, seed, size)
        if units:
            generator = torch.Generator().manual_seed(seed + 1)
            score.reward_loc.fill_(1.3)
            score.reward_scale.fill_(2.1)
            score.embedding_loc.copy_(torch.randn(dim, generator=generator))
            score.embedding_scale.copy_(0.5 + torch.rand(dim, generator=generator))
        return score.double().eval()

    return build


@pytest.fixture(scope="session")
def small_ebrm():
    """Builds an EBRM with random units and weights scaled up until f has hills and valleys, in double precision."""

    def build(dim=3, seed=0, size=3.0):
        torch.manual_seed(seed)
        score = EBRM(dim)
        with torch.no_grad():
            for parameter in score.parameters():
                parameter.mul_(size)
        score.reward_loc.fill_(1.3)
        score.reward_scale.fill_(2.1)
        return score.double().eval()

    return build


@pytest.fixture(scope="session")
def free_energy():
    """f(e, r) at any number of rewards per example, in double precision and without a line of qbrm."""
    return by_hand


@pytest.fixture(scope="session")
def published_network():
    """Turns an EBRM into the published network f(embedding, standardised rewards) with a copy of its weights."""
    return concatenated_network


def randomise(score, seed, size):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def by_hand(score, embedding, base_reward, reward):
    """The score's formula, differentiable in `reward`.

    Args: the score; embeddings (n, dim); base rewards (n,); rewards (n, k) or (k,), all in the reward model's units.
    """
    embedding, base_reward, reward = embedding.double(), base_reward.double(), reward.double()
    reward = reward.expand(len(embedding), -1)
    standard, anchor = ((x - score.reward_loc.double()) / score.reward_scale.double() for x in (reward, base_reward))
    if isinstance(score, EBRM):
        return concatenated_network(score)(embedding, standard)
    p = {name: value.detach().double() for name, value in score.named_parameters()}
    whitened = (embedding - score.embedding_loc.double()) / score.embedding_scale.double()
    mu = whitened @ p["a"] + p["a0"] + (anchor if score.anchored else 0)
    field = torch.einsum("amd,nd->nam", p["W"], whitened) + p["c"]
    field = field[:, None] + standard[:, :, None, None] * p["u"]
    length = field.square().sum(2).sqrt()
    log_cosh = torch.logaddexp(length, -length) - torch.tensor(2.0, dtype=torch.float64).log()
    gaussian = (standard - mu[:, None]) ** 2 / (2 * p["log_tau"].exp() ** 2)
    return log_cosh.sum(-1) - gaussian - p["u"].square().sum() * standard**2 / 2


def concatenated_network(score):
    """The published network on [embedding, lifted reward], unsplit, with the weights of `score`."""
    with torch.random.fork_rng():  # building layers draws weights that are overwritten at once
        lift = nn.Sequential(
            nn.Linear(1, 16), nn.Tanh(), HalfDropout(), nn.Linear(16, 32), nn.Tanh(), HalfDropout(),
            nn.Linear(32, 64), nn.Tanh(),
        )  # fmt: skip
        joint = nn.Sequential(
            nn.Linear(score.dim + 64, 1024), nn.Tanh(), HalfDropout(), nn.Linear(1024, 512), nn.Tanh(),
            HalfDropout(), nn.Linear(512, 1),
        )  # fmt: skip
    network = nn.ModuleList([lift, joint]).double().train(score.training).requires_grad_(False)
    weights = [value.detach().double() for value in score.parameters()]
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))

    def f(embedding, standard):
        repeated = embedding[:, None].expand(-1, standard.shape[1], -1)
        return joint(torch.cat([repeated, lift(standard[..., None])], -1))[..., 0]

    return f
