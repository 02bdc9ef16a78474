import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from qbrm.energies.density import density, probability_greater

pytestmark = pytest.mark.usefixtures("one_thread")
unhurried = settings(deadline=None, max_examples=15)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def examples(dim=3, n=5, seed=7, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(n, dim, generator=generator)
    return embedding, spread * torch.randn(n, generator=generator)


def brute_force(free_energy, score, embedding, base_reward, reach=15.0, nodes=20_001):
    """p(r | e) on one fine grid of standardised rewards for all examples: grid and densities (n, nodes)."""
    grid = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    f = free_energy(score, embedding, base_reward, score.from_standard(grid)).numpy()
    weight = np.exp(f - f.max(1, keepdims=True))
    return grid.numpy(), weight / np.trapezoid(weight, grid.numpy(), axis=1)[:, None]


def running_integral(grid, values):
    steps = (values[:, 1:] + values[:, :-1]) / 2 * np.diff(grid)
    return np.concatenate([np.zeros((len(values), 1)), steps.cumsum(1)], 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_p_of_r_given_e_integrates_to_one(machine, seed):
    score = machine(seed=seed)
    embedding, base_reward = (x.double() for x in examples())
    clamped = score.clamp(embedding, base_reward)
    log_z, mode, reach = score.log_normaliser(clamped), score.mode(clamped), 10 * float(score.tau)
    for row in range(5):
        one = clamped.rows(slice(row, row + 1))

        def p(r, one=one, row=row):
            return math.exp(float(score.at(one, torch.tensor([[r]]).double()) - log_z[row]))

        integral, _ = quad(p, float(mode[row]) - reach, float(mode[row]) + reach, epsabs=1e-10, limit=200)
        assert integral == pytest.approx(1, abs=1e-6)


def test_ebrms_density_integrates_to_one_on_its_support(small_ebrm, free_energy):
    score = small_ebrm().float()
    embedding, base_reward = examples()
    log_z = score.log_normaliser(score.clamp(embedding, base_reward))
    grid = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    f = free_energy(score, embedding, base_reward, score.from_standard(grid)).numpy()
    integral = np.trapezoid(np.exp(f - log_z.numpy()[:, None]), grid.numpy(), axis=1)
    assert integral == pytest.approx(np.ones(5), abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mean_and_standard_deviation_are_those_of_a_fine_grid(machine, free_energy, seed):
    score = machine(seed=seed)
    embedding, base_reward = examples()
    grid, p = brute_force(free_energy, score, embedding, base_reward)
    mean = np.trapezoid(p * grid, grid, axis=1)
    std = np.sqrt(np.trapezoid(p * (grid - mean[:, None]) ** 2, grid, axis=1))
    got = density(score, score.clamp(embedding.double(), base_reward.double()))
    assert got.mass.sum(-1).tolist() == pytest.approx([1.0] * 5, abs=1e-12)
    assert got.mean.tolist() == pytest.approx(mean, abs=1e-6)
    assert got.std.tolist() == pytest.approx(std, rel=1e-6)


@pytest.mark.parametrize(("spacing", "error"), [(0.8, 1e-4), (0.4, 4e-6)])
def test_cdf_is_the_running_integral_of_a_fine_grid(machine, free_energy, spacing, error):
    score = machine(seed=1).float()
    embedding, base_reward = examples()
    grid, p = brute_force(free_energy, score, embedding, base_reward)
    expected = running_integral(grid, p)
    got = density(score, score.clamp(embedding, base_reward), spacing)
    for row in range(5):
        at_nodes = np.interp(got.lattice.rewards[row].numpy(), grid, expected[row])
        assert got.cdf[row].tolist() == pytest.approx(at_nodes, abs=error)


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.25, 0.5, 0.9, 0.99])
def test_quantiles_on_a_fine_lattice_split_the_mass(machine, free_energy, probability):
    score = machine(seed=3).float()
    embedding, base_reward = examples()
    grid, p = brute_force(free_energy, score, embedding, base_reward)
    below = running_integral(grid, p)
    fine = density(score, score.clamp(embedding, base_reward), spacing=0.05)
    for row, quantile in enumerate(fine.quantile(probability).tolist()):
        assert np.interp(quantile, grid, below[row]) == pytest.approx(probability, abs=5e-4)


def test_a_finer_lattice_changes_no_moment(machine):
    score = machine(seed=4)
    clamped = score.clamp(*(x.double() for x in examples()))
    coarse, fine = density(score, clamped), density(score, clamped, spacing=0.05)
    torch.testing.assert_close(coarse.mean, fine.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(coarse.std, fine.std, rtol=1e-6, atol=0)


def test_the_density_is_normal_when_the_hidden_units_are_cut_off(machine):
    score = machine().float()
    with torch.no_grad():
        score.u.zero_()
    clamped = score.clamp(*examples())
    tau = float(score.tau)
    torch.testing.assert_close(score.log_normaliser(clamped) - score.at(clamped, clamped.mean[:, None])[:, 0],
                               torch.full((5,), math.log(tau * math.sqrt(2 * math.pi))), rtol=0, atol=1e-5)  # fmt: skip
    got = density(score, clamped, spacing=0.05)
    torch.testing.assert_close(got.mean, clamped.mean, rtol=0, atol=1e-4 * tau)
    torch.testing.assert_close(got.std, torch.full((5,), tau), rtol=1e-5, atol=0)
    for probability in (0.05, 0.5, 0.95):
        expected = clamped.mean + tau * norm.ppf(probability)
        torch.testing.assert_close(got.quantile(probability), expected, rtol=0, atol=2e-3 * tau)


# ----------------------------------------------------------------------------------------- P(r_a > r_b)


def pair(score, seed=1, n=6):
    both = [examples(n=n, seed=seed + k) for k in (0, 1)]
    return both, [density(score, score.clamp(*side)) for side in both]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probability_of_the_greater_reward_is_the_double_integral(machine, free_energy, seed):
    score = machine(seed=seed).float()
    (a, b), (density_a, density_b) = pair(score, n=8)
    grid, p_a = brute_force(free_energy, score, *a)
    _, p_b = brute_force(free_energy, score, *b)
    expected = np.trapezoid(p_a * running_integral(grid, p_b), grid, axis=1)
    assert probability_greater(density_a, density_b).tolist() == pytest.approx(expected, abs=5e-6)


def test_probability_of_the_greater_reward_holds_for_ebrm_too(small_ebrm, free_energy):
    score = small_ebrm().float()
    (a, b), (density_a, density_b) = pair(score, n=4)
    grid, p_a = brute_force(free_energy, score, *a, reach=10.0, nodes=1001)
    _, p_b = brute_force(free_energy, score, *b, reach=10.0, nodes=1001)
    expected = np.trapezoid(p_a * running_integral(grid, p_b), grid, axis=1)
    assert np.ptp(expected) > 0.05
    assert probability_greater(density_a, density_b).tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("log_tau", [-2.0, 0.0, 1.0])
def test_without_couplings_preferences_are_thurstones(machine, log_tau):
    score = machine().float()
    with torch.no_grad():
        score.u.zero_()
        score.log_tau.fill_(log_tau)
    embedding = torch.zeros(41, 3)
    gap = torch.linspace(-6, 6, 41) * math.exp(log_tau)
    a = density(score, score.clamp(embedding, score.from_standard(0.3 + gap)))
    b = density(score, score.clamp(embedding, score.from_standard(torch.full((41,), 0.3))))
    expected = norm.cdf(gap.double().numpy() / (math.sqrt(2) * math.exp(log_tau)))
    assert probability_greater(a, b).tolist() == pytest.approx(expected, abs=2e-6)


@unhurried
@given(seed=st.integers(0, 10_000), spread=st.floats(0, 100), log_tau=st.floats(-3, 1), coupling=st.floats(0, 3))
def test_one_of_two_rewards_is_the_greater(machine, seed, spread, log_tau, coupling):
    score = machine(seed=seed).float()
    with torch.no_grad():
        score.log_tau.fill_(log_tau)
        score.u.mul_(coupling)
    a, b = (density(score, score.clamp(*examples(n=6, seed=seed + k, spread=spread))) for k in (0, 1))
    forward, backward = probability_greater(a, b), probability_greater(b, a)
    assert ((forward >= 0) & (forward <= 1)).all()
    torch.testing.assert_close(forward + backward, torch.ones(6), rtol=0, atol=5e-6)
    torch.testing.assert_close(probability_greater(a, a), torch.full((6,), 0.5), rtol=0, atol=5e-6)


@unhurried
@given(seed=st.integers(0, 10_000), lift=st.floats(0, 3))
def test_a_higher_base_reward_is_never_less_preferred(machine, seed, lift):
    score = machine(seed=seed).float()
    a, b = examples(n=6, seed=seed), examples(n=6, seed=seed + 1)
    other = density(score, score.clamp(*b))
    before = probability_greater(density(score, score.clamp(*a)), other)
    after = probability_greater(density(score, score.clamp(a[0], a[1] + lift)), other)
    assert (after >= before - 5e-6).all()


@pytest.mark.parametrize("log_tau", [-3.0, 0.0, 1.0])
def test_rewards_a_thousand_apart_are_surely_ordered(machine, log_tau):
    score = machine(units=False).float()
    with torch.no_grad():
        score.log_tau.fill_(log_tau)
    embedding = torch.zeros(4, 3)
    base_reward = torch.tensor([0.0, 3.0, -3.0, 500.0])
    # The refined rewards lie mu / (1 + tau^2 |u|^2) apart, so the base rewards are moved further than that.
    apart = 1000 * (1 + float(score.tau) ** 2 * float(score.u.square().sum()))
    low, high = (density(score, score.clamp(embedding, base_reward + k * apart)) for k in (0, 1))
    torch.testing.assert_close(probability_greater(high, low), torch.ones(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(probability_greater(low, high), torch.zeros(4), rtol=0, atol=1e-6)
    assert high.mean.isfinite().all()
    assert high.std.isfinite().all()


# ------------------------------------------------------------------------------------------------- the lattice


def test_an_outlier_widens_no_window_and_keeps_its_own_density(machine, free_energy):
    score = machine(units=False)
    embedding, base_reward = (x.double() for x in examples())
    with_outlier = base_reward.clone()
    with_outlier[2] = 300.0
    plain, far = (density(score, score.clamp(embedding, r)) for r in (base_reward, with_outlier))
    assert plain.mass.shape == far.mass.shape
    others = torch.tensor([0, 1, 3, 4])
    assert torch.equal(plain.mass[others], far.mass[others])
    grid, p = brute_force(free_energy, score, embedding[2:3], with_outlier[2:3], reach=400.0, nodes=400_001)
    mean = np.trapezoid(p * grid, grid, axis=1)
    assert far.mean[2].item() == pytest.approx(mean[0], abs=1e-4)


@unhurried
@given(seed=st.integers(0, 10_000), log_tau=st.floats(-3, 2), coupling=st.floats(0, 10))
def test_every_window_holds_all_of_its_mass(machine, free_energy, seed, log_tau, coupling):
    score = machine(seed=seed)
    with torch.no_grad():
        score.log_tau.fill_(log_tau)
        score.u.mul_(coupling)
    embedding, base_reward = (x.double() for x in examples(seed=seed))
    lattice = score.lattice(score.clamp(embedding, base_reward))
    edges = lattice.rewards[:, [0, -1]].double()
    mode = score.mode(score.clamp(embedding, base_reward))
    values = free_energy(score, embedding, base_reward, score.from_standard(torch.cat([edges, mode[:, None]], 1)))
    assert (values[:, 2] - values[:, 0] >= 15).all()  # e^-15 of the peak
    assert (values[:, 2] - values[:, 1] >= 15).all()
    assert lattice.step <= 0.8 / math.sqrt(float(score.stiffness)) * (1 + 1e-9)
