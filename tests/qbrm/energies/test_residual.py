"""The residual score, deep fields and the strength: what they are next to a machine with hidden units."""

import math

import pytest
import torch
from torch.distributions import Normal

from fixtures.scores import randomise
from qbrm.energies import ENERGY_SCORES, RBM, Residual, SemiQuantumRBM
from qbrm.energies.base import EnergyScore
from qbrm.energies.density import density
from qbrm.energies.geometric_mean import geometric_mean

DIM = 5
DEEP = [(RBM, {"hidden": 4}), (SemiQuantumRBM, {"hidden": 4}), (Residual, {})]


def built(kind, seed=0, **options):
    torch.manual_seed(seed)
    score = kind(DIM, **options)
    randomise(score, seed, 0.7)
    score.reward_loc.fill_(0.4)
    score.reward_scale.fill_(1.7)
    score.embedding_loc.copy_(torch.arange(DIM))
    score.embedding_scale.fill_(2.0)
    return score.double().eval()


def examples(n=6, seed=3):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    return 2 * torch.randn(n, DIM, **draw), torch.randn(n, **draw)


def corrected(score, embedding, base_reward):
    """r0 + w . tanh(V e + v) + a0 in standardised units, a layer at a time."""
    hidden = torch.tanh(
        ((embedding - score.embedding_loc) / score.embedding_scale) @ score.trunk.weight.T + score.trunk.bias
    )
    return (base_reward - score.reward_loc) / score.reward_scale + hidden @ score.a + score.a0


def test_a_residual_is_a_normal_around_the_base_reward_corrected_by_a_network():
    score = built(Residual, deep=7)
    embedding, base_reward = examples()
    mean = corrected(score, embedding, base_reward)
    clamped, reward = score.clamp(embedding, base_reward), torch.linspace(-2, 2, 9, dtype=torch.float64)
    expected = Normal(mean[:, None], score.tau).log_prob(reward)
    torch.testing.assert_close(score.log_density(clamped, reward.expand(6, -1)), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(score.mode(clamped), mean)


def test_its_preference_in_closed_form_is_that_of_its_density():
    score = built(Residual, deep=7)
    clamped = score.clamp(*examples(8))
    torch.testing.assert_close(
        score.log_preference_of(clamped), EnergyScore.log_preference_of(score, clamped), rtol=1e-6, atol=1e-6
    )


def test_it_is_a_deep_machine_without_hidden_units():
    residual, machine = built(Residual, deep=7), built(SemiQuantumRBM, hidden=4, deep=7)
    shared = {name: value for name, value in residual.state_dict().items() if name not in ("W", "c", "u")}
    machine.load_state_dict(shared, strict=False)
    with torch.no_grad():
        for parameter in (machine.W, machine.c, machine.u):
            parameter.zero_()
    torch.testing.assert_close(machine.mode(machine.clamp(*examples())), residual.mode(residual.clamp(*examples())))


@pytest.mark.parametrize(("kind", "options"), DEEP)
def test_deep_fields_are_plain_fields_of_the_trunk(kind, options):
    deep = built(kind, deep=7, **options)
    embedding, base_reward = examples()
    hidden = torch.tanh(
        ((embedding - deep.embedding_loc) / deep.embedding_scale) @ deep.trunk.weight.T + deep.trunk.bias
    )
    plain = kind(7, deep=0, **options).double()
    plain.load_state_dict(
        {n: v for n, v in deep.state_dict().items() if not n.startswith(("trunk", "embedding"))}, strict=False
    )
    clamped, expected = deep.clamp(embedding, base_reward), plain.clamp(hidden, base_reward)
    torch.testing.assert_close(clamped.field, expected.field)
    torch.testing.assert_close(clamped.mean, expected.mean)


@pytest.mark.parametrize(("kind", "options"), DEEP)
def test_the_mean_of_deep_machines_is_the_geometric_mean_of_their_densities(kind, options):
    members = [built(kind, seed, deep=3, **options) for seed in range(3)]
    line = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    on_the_line = [m.at(m.clamp(*examples()), line[None]) for m in members]
    one = geometric_mean(members)
    found = torch.log_softmax(one.at(one.clamp(*examples()), line[None]), -1)
    torch.testing.assert_close(found, torch.log_softmax(torch.stack(on_the_line).mean(0), -1), rtol=0, atol=1e-9)
    assert one.deep == 9


@pytest.mark.parametrize(("kind", "options"), DEEP)
def test_strength_scales_the_correction_from_none_to_whole(kind, options):
    score = built(kind, deep=7, **options)
    embedding, base_reward = examples(40)
    whole = score.mode(score.clamp(embedding, base_reward))
    moved = []
    for strength in (0.0, 0.5, 1.0):
        score.set_strength(strength)
        clamped = score.clamp(embedding, base_reward)
        moved.append((score.mode(clamped) - clamped.base_reward).abs().mean())
    assert moved[0] == 0
    assert 0 < moved[1] < moved[2]
    torch.testing.assert_close(score.mode(score.clamp(embedding, base_reward)), whole)


@pytest.mark.parametrize("name", ["residual", "rbm", "sqrbm", "qbm", "tqbm"])
def test_a_deep_score_with_a_strength_is_rebuilt_by_its_settings_and_state(name):
    units = {} if name == "residual" else {"hidden": 4}
    score = built(ENERGY_SCORES[name], deep=3, strength=0.25, **units)
    twin = ENERGY_SCORES[name](**score.settings()).double().eval()
    twin.load_state_dict(score.state_dict())
    embedding, base_reward = examples()
    assert twin.strength == 0.25
    assert torch.equal(twin(embedding, base_reward, base_reward), score(embedding, base_reward, base_reward))


@pytest.mark.parametrize(("kind", "options"), DEEP)
def test_a_centred_score_corrects_by_nothing_on_average(kind, options):
    score = built(kind, deep=7, **options)
    with torch.no_grad():
        score.a0.fill_(3.0)
    embedding, base_reward = examples(200)
    score.centre(embedding, base_reward)
    clamped = score.clamp(embedding, base_reward)
    assert abs(float((score.mode(clamped) - clamped.base_reward).mean())) < 0.02


def test_a_linear_residual_reads_the_embedding_itself():
    score = built(Residual, deep=0)
    embedding, base_reward = examples()
    expected = (base_reward - 0.4) / 1.7 + ((embedding - score.embedding_loc) / 2.0) @ score.a + score.a0
    torch.testing.assert_close(score.mode(score.clamp(embedding, base_reward)), expected)


def test_the_width_of_a_residual_is_tau_for_every_example():
    score = built(Residual, deep=7)
    torch.testing.assert_close(
        density(score, score.clamp(*examples())).std, torch.full((6,), float(score.tau)).double(), rtol=1e-6, atol=0
    )
    assert math.isfinite(float(score.stiffness))
