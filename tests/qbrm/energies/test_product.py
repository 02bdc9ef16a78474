"""Machines that were trained apart, as one: the normalised, weighted geometric mean of their densities."""

import pytest
import torch

from fixtures.scores import randomise
from qbrm.energies import (
    EBRM,
    RBM,
    CoupledBoltzmannMachine,
    Product,
    Residual,
    SemiQuantumRBM,
    TransverseFieldMachine,
    describe,
    from_description,
)
from qbrm.energies.density import density
from qbrm.energies.geometric_mean import geometric_mean
from qbrm.errors import InputError

DIM = 3
REWARDS = torch.linspace(-60, 60, 6_001, dtype=torch.float64)  # of the reward model, fine and wide
SPACING = float(REWARDS[1] - REWARDS[0])
CONCAVE = ("residual", "rbm", "sqrbm", "tqbm")
BUILD = {
    "residual": lambda: Residual(DIM, deep=4),
    "rbm": lambda: RBM(DIM, hidden=4, strength=0.5),
    "sqrbm": lambda: SemiQuantumRBM(DIM, hidden=3, axes=3),
    "sqrbm:deep": lambda: SemiQuantumRBM(DIM, hidden=3, deep=2, members=2),
    "qbm": lambda: CoupledBoltzmannMachine(DIM, hidden=3),
    "tqbm": lambda: TransverseFieldMachine(DIM, hidden=3),
}


def machine(name, seed, *, gate=False):
    """A machine with random parameters and units of its own."""
    score = BUILD[name]()
    randomise(score, seed, 0.6)
    torch.manual_seed(seed)
    score.reward_loc.fill_(0.5 * seed)
    score.reward_scale.fill_(1 + 0.4 * seed)
    score.embedding_loc.copy_(torch.randn(DIM))
    score.embedding_scale.fill_(1.5)
    if gate:
        score.close_gate(seed + torch.randn(60, DIM), seed + torch.randn(30, DIM))
    return score.double().eval()


def machines(*names, gate=False):
    return [machine(name, seed, gate=gate) for seed, name in enumerate(names)]


def examples(n=5):
    torch.manual_seed(7)
    return torch.randn(n, DIM, dtype=torch.float64), torch.randn(n, dtype=torch.float64)


def log_density(score):
    """log p(r | e) per unit of reward, by a plain sum over a fine and wide grid."""
    embedding, base_reward = examples()
    value = score.at(score.clamp(embedding, base_reward), score.to_standard(REWARDS)[None])
    return torch.log_softmax(value, -1)


MIXED = ("residual", "rbm", "sqrbm:deep", "qbm", "tqbm")


@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (0.1, 0.2, 0.3, 0.15, 0.25), (3, 0, 1, 0, 0)])
def test_its_density_is_the_weighted_geometric_mean_of_densities_in_different_units(weights):
    parts = machines(*MIXED)
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    mean = sum(share * log_density(part) for share, part in zip(shares, parts, strict=True))
    expected = torch.log_softmax(mean, -1)
    torch.testing.assert_close(log_density(Product(parts, weights)), expected, rtol=0, atol=1e-9)


def test_weights_by_familiarity_are_the_tempered_posterior_of_whose_an_embedding_is():
    parts = machines("rbm", "sqrbm", "residual", gate=True)
    embedding, _ = examples()
    densities = []
    for part in parts:  # the normal that the gate's principal components describe, in the embedding's own units
        gate, scale = part.gate, part.embedding_scale
        outside = torch.eye(DIM, dtype=torch.float64) - gate.directions.T @ gate.directions
        covariance = gate.directions.T @ gate.variances.diag() @ gate.directions + gate.rest * outside
        of = torch.distributions.MultivariateNormal(
            part.embedding_loc + scale * gate.mean, scale.diag() @ covariance @ scale.diag()
        )
        densities.append(of.log_prob(embedding).exp())
    width = sum(part.gate.width for part in parts) / 3
    powers = torch.stack(densities, 1) ** (1 / width)
    product = Product(parts)
    torch.testing.assert_close(product.shares(embedding), powers / powers.sum(1, keepdim=True))
    expected = sum(
        share[:, None] * log_density(part) for share, part in zip(product.shares(embedding).T, parts, strict=True)
    )
    torch.testing.assert_close(log_density(product), torch.log_softmax(expected, -1), rtol=0, atol=1e-9)


def test_far_from_everything_the_weights_stay_a_distribution_and_the_corrections_fade():
    product = Product(machines("rbm", "sqrbm", gate=True))
    far, reward = torch.full((1, DIM), 1e4, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    torch.testing.assert_close(product.shares(far).sum(1), torch.ones(1, dtype=torch.float64))
    refined = product.from_standard(product.mode(product.clamp(far, reward)))
    torch.testing.assert_close(refined, reward, rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [CONCAVE, ("qbm", "residual")], ids=["log-concave", "not"])
def test_its_mode_mean_and_normaliser_are_those_of_its_density(names):
    product = Product(machines(*names), [1.0] * len(names))
    clamped, log_p = product.clamp(*examples()), log_density(product)
    mode = product.from_standard(product.mode(clamped))
    torch.testing.assert_close(mode, REWARDS[log_p.argmax(-1)], rtol=0, atol=SPACING if "qbm" not in names else 0.02)
    mean = product.from_standard(density(product, clamped).mean)
    torch.testing.assert_close(mean, log_p.exp() @ REWARDS, rtol=0, atol=1e-6)
    value = product.at(clamped, product.to_standard(REWARDS)[None])
    step = torch.tensor(SPACING / float(product.reward_scale)).log()
    torch.testing.assert_close(product.log_normaliser(clamped), torch.logsumexp(value, -1) + step, rtol=0, atol=1e-6)


def test_its_slope_is_the_derivative_of_its_energy():
    product = Product(machines(*CONCAVE), [0.4, 0.3, 0.2, 0.1])
    clamped, step = product.clamp(*examples()), 1e-4
    reward = torch.linspace(-2, 2, 5, dtype=torch.float64)
    slope = product.slope(clamped)(reward)
    left, middle, right = product.at(clamped, torch.stack([reward - step, reward, reward + step], 1)).unbind(1)
    torch.testing.assert_close(slope.first, (right - left) / (2 * step), rtol=0, atol=1e-6)
    torch.testing.assert_close(slope.second, (left - 2 * middle + right) / step**2, rtol=0, atol=1e-5)


def test_equal_weights_of_machines_in_one_unit_are_the_mean_of_an_ensemble():
    parts = machines("sqrbm", "sqrbm", "sqrbm")
    for part in parts[1:]:
        for name, value in parts[0].named_buffers():
            part.get_buffer(name).copy_(value)
    torch.testing.assert_close(log_density(Product(parts, [1, 1, 1])), log_density(geometric_mean(parts)))


def test_a_machine_merged_with_itself_is_that_machine():
    one = machine("sqrbm", 1)
    torch.testing.assert_close(log_density(Product([one, one], [1, 1])), log_density(one))


def test_the_order_in_which_machines_are_merged_changes_nothing():
    parts = machines("rbm", "residual", "sqrbm")
    one, other = Product(parts, [1, 2, 3]), Product(parts[::-1], [3, 2, 1])
    torch.testing.assert_close(log_density(one), log_density(other), rtol=0, atol=1e-9)
    pairs = [score.clamp(*examples(2)) for score in (one, other)]
    wins = [score.log_preference_of(clamped).exp() for score, clamped in zip((one, other), pairs, strict=True)]
    torch.testing.assert_close(*wins, rtol=0, atol=1e-6)


def test_the_temperature_of_a_product_multiplies_those_of_its_machines():
    parts = machines("rbm", "sqrbm")
    before = [part.log_temperature for part in parts]
    product = Product(parts, [1, 1])
    product.set_log_temperature(product.log_temperature + 0.5)
    assert [part.log_temperature for part in parts] == pytest.approx([value + 0.5 for value in before])


@pytest.mark.parametrize("weights", [None, [0.25, 0.75]])
def test_description_and_tensors_rebuild_it(weights):
    product = Product(machines("rbm", "sqrbm:deep", gate=True), weights)
    twin = from_description(describe(product)).double().eval()
    twin.load_state_dict(product.state_dict())
    first, second = (density(score, score.clamp(*examples())) for score in (product, twin))
    assert torch.equal(first.mass, second.mass)


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        (["rbm"], None, "1 machine to merge; expected two or more"),
        (["rbm", "rbm"], None, "machine 1 has no gate, so nothing says what is familiar to it"),
        (["rbm", "rbm"], [1, 1, 1], "weights 1, 1, 1 for 2 machines; expected as many"),
        (["rbm", "rbm"], [1, -1], "weights 1, -1; expected numbers of zero or more"),
        (["rbm", "rbm"], [0, 0], "not all of them zero"),
        (["rbm", "rbm"], [1, float("nan")], "expected numbers of zero or more"),
    ],
)
def test_machines_or_weights_that_do_not_fit_are_refused(parts, weights, message):
    with pytest.raises(InputError, match=message):
        Product(machines(*parts), weights)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: RBM(DIM + 1), "embeddings of sizes 3, 4; expected one size"),
        (lambda: EBRM(DIM), "machine 2 is of class EBRM, which cannot be merged"),
        (
            lambda: CoupledBoltzmannMachine(DIM, sampler="gibbs"),
            "CoupledBoltzmannMachine and draws with a sampler",
        ),
        (lambda: Product(machines("rbm", "sqrbm"), [1, 1]), "machine 2 is of class Product, which"),
    ],
)
def test_scores_that_cannot_be_merged_are_refused(other, message):
    with pytest.raises(InputError, match=message):
        Product([machine("rbm", 0), other()], [1, 1])
