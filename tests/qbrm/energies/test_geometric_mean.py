"""Several machines as one: the normalised geometric mean of their densities."""

from functools import partial

import pytest
import torch

from fixtures.scores import randomise
from qbrm.energies import RBM, SemiQuantumRBM
from qbrm.energies.density import density
from qbrm.energies.geometric_mean import geometric_mean

DIM = 3
LINE = torch.linspace(-40, 40, 20_001, dtype=torch.float64)


def machines(count=3, kind=SemiQuantumRBM, **settings):
    built = []
    for seed in range(count):
        score = kind(DIM, hidden=4, **settings)
        randomise(score, seed, 0.7)
        score.reward_loc.fill_(1.3)
        score.reward_scale.fill_(2.1)
        score.embedding_loc.copy_(torch.arange(DIM))
        score.embedding_scale.fill_(1.5)
        built.append(score.double().eval())
    return built


def examples(n=5):
    torch.manual_seed(7)
    return torch.randn(n, DIM, dtype=torch.float64), torch.randn(n, dtype=torch.float64)


def on_the_line(score, embedding, base_reward):
    """log p(r | e) by a plain sum over a fine and wide grid of standardised rewards."""
    value = score.at(score.clamp(embedding, base_reward), LINE[None])
    return torch.log_softmax(value, -1)


KINDS = [RBM, *(partial(SemiQuantumRBM, axes=axes) for axes in (1, 2, 3))]


@pytest.mark.parametrize("kind", KINDS, ids=["rbm", "sqrbm-1", "sqrbm-2", "sqrbm-3"])
@pytest.mark.parametrize("anchored", [True, False])
def test_its_density_is_the_geometric_mean_of_its_members_densities(kind, anchored):
    members = machines(kind=kind, anchored=anchored)
    one = geometric_mean(members)
    mean = torch.stack([on_the_line(member, *examples()) for member in members]).mean(0)
    expected = torch.log_softmax(mean, -1)
    torch.testing.assert_close(on_the_line(one, *examples()), expected, rtol=0, atol=1e-9)


def test_its_mode_slope_and_normaliser_are_those_of_its_energy():
    one = geometric_mean(machines())
    clamped = one.clamp(*examples())
    value = one.at(clamped, LINE[None])
    spacing = float(LINE[1] - LINE[0])
    torch.testing.assert_close(one.mode(clamped), LINE[value.argmax(-1)], rtol=0, atol=spacing)
    torch.testing.assert_close(one.log_normaliser(clamped), torch.logsumexp(value, -1) + torch.tensor(spacing).log())
    reward = torch.linspace(-2, 2, 5, dtype=torch.float64)
    slope, step = one.slope(clamped)(reward), 1e-4
    left, middle, right = one.at(clamped, torch.stack([reward - step, reward, reward + step], 1)).unbind(1)
    torch.testing.assert_close(slope.first, (right - left) / (2 * step), rtol=0, atol=1e-6)
    torch.testing.assert_close(slope.second, (left - 2 * middle + right) / step**2, rtol=0, atol=1e-5)


def test_the_mean_of_one_machine_with_itself_is_that_machine():
    machine = machines(1)[0]
    one = geometric_mean([machine, machine])
    reward = torch.linspace(-2, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(one(*examples(), reward), machine(*examples(), reward), rtol=0, atol=1e-6)


def test_a_mean_of_means_counts_every_machine_once():
    members = machines(4)
    nested = geometric_mean([geometric_mean(members[:2]), geometric_mean(members[2:])])
    flat = geometric_mean(members)
    assert nested.settings() == flat.settings()
    torch.testing.assert_close(nested.state_dict(), flat.state_dict())


def test_settings_and_weights_rebuild_it():
    one = geometric_mean(machines()).float()
    again = SemiQuantumRBM(**one.settings())
    again.load_state_dict(one.state_dict())
    embedding, base_reward = (part.float() for part in examples())
    first, second = (density(score, score.clamp(embedding, base_reward)) for score in (one, again))
    assert torch.equal(first.mass, second.mass)


def test_machines_that_do_not_fit_together_are_refused():
    one, other = machines(2)
    other.reward_scale.fill_(3.0)
    with pytest.raises(ValueError, match="same units: False; expected the same sizes and units"):
        geometric_mean([one, other])
    with pytest.raises(ValueError, match="machines differ"):
        geometric_mean([one, machines(1, axes=3)[0]])
    gated = machines(1)[0].float()
    gated.close_gate(torch.randn(40, DIM), torch.randn(20, DIM))
    with pytest.raises(ValueError, match="machines differ"):
        geometric_mean([gated, machines(1)[0].float()])


def test_the_mean_of_gated_machines_has_the_first_ones_gate():
    members = [machine.float() for machine in machines(2)]
    for seed, member in enumerate(members):
        member.close_gate(torch.randn(40 + seed, DIM), torch.randn(20, DIM))
    embedding, _ = (part.float() for part in examples())
    one = geometric_mean(members)
    assert torch.equal(one.familiarity(embedding), members[0].familiarity(embedding))
    assert not torch.equal(one.familiarity(embedding), members[1].familiarity(embedding))
