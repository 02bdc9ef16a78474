"""Exact enumeration against brute force, and Gibbs chains against exact enumeration."""

import itertools

import numpy as np
import pytest
import torch

from qbrm.errors import InputError
from qbrm.samplers.base import Sampler, check_samples
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.gibbs import GibbsSampler
from qbrm.samplers.gibbs_kernel import LANES, draw_thresholds, set_fields, update_spin


def ising(batch, spins, shared=True, size=0.6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (spins, spins) if shared else (batch, spins, spins)
    couplings = (size * torch.randn(shape, generator=generator, dtype=dtype)).triu(1)
    fields = 0.5 * torch.randn(batch, spins, generator=generator, dtype=dtype)
    return fields, couplings + couplings.mT


def brute_force(fields, couplings):
    """Log Z, means and correlations from a loop over states, in numpy."""
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=fields.shape[1])))
    results = []
    for h, j in zip(fields.numpy(), couplings.expand(len(fields), -1, -1).numpy(), strict=True):
        exponent = np.array([h @ s + s @ j @ s / 2 for s in states])
        log_z = np.logaddexp.reduce(exponent)
        p = np.exp(exponent - log_z)
        results.append((log_z, p @ states, (states.T * p) @ states))
    return [torch.tensor(np.array(part)) for part in zip(*results, strict=True)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_moments_agree(states, fields, couplings, effective):
    """Within 5 standard errors of `effective` independent states."""
    means, correlations = ExactSampler().moments(fields, couplings)
    for sampled, exact in (
        (states.mean(1), means),
        (states.mT @ states / states.shape[1], correlations),
    ):
        error = ((1 - exact**2).clamp(min=0) / effective).sqrt()
        assert ((sampled - exact).abs() <= 5 * error + 1e-9).all()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("spins", [1, 2, 5, 8])
@pytest.mark.parametrize("size", [0.6, 300.0])
def test_exact_log_partition_and_moments_are_those_of_brute_force(shared, spins, size):
    problem = ising(3, spins, shared, size)
    expected = brute_force(*problem)
    log_z, means, correlations = ExactSampler().log_partition(*problem), *ExactSampler().moments(*problem)
    for value, by_hand in zip((log_z, means, correlations), expected, strict=True):
        torch.testing.assert_close(value, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [0.6, 90.0])
def test_gradient_of_log_partition_is_that_of_finite_differences(shared, size):
    fields, couplings = (tensor.requires_grad_() for tensor in ising(2, 5, shared, size))

    def log_z(fields, couplings):
        upper = couplings.triu(1)
        return ExactSampler().log_partition(fields, upper + upper.mT)

    assert torch.autograd.gradcheck(log_z, (fields, couplings))


@pytest.mark.parametrize("shared", [True, False])
def test_gradient_of_log_partition_is_the_moments(shared):
    fields, couplings = (tensor.requires_grad_() for tensor in ising(3, 7, shared))
    means, correlations = ExactSampler().moments(fields.detach(), couplings.detach())
    by_fields, by_couplings = torch.autograd.grad(
        ExactSampler().log_partition(fields, couplings).sum(), (fields, couplings)
    )
    torch.testing.assert_close(by_fields, means)
    torch.testing.assert_close(by_couplings, (correlations.sum(0) if shared else correlations) / 2)


def test_exact_results_do_not_depend_on_the_part_of_the_batch(monkeypatch):
    problem = ising(7, 6, shared=False)
    together = ExactSampler().log_partition(*problem), *ExactSampler().moments(*problem)
    drawn = ExactSampler().sample(*problem, 9, seeded())
    monkeypatch.setattr("qbrm.samplers.exact.CHUNK", 2 * 2**6)
    apart = ExactSampler().log_partition(*problem), *ExactSampler().moments(*problem)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-13)
    assert torch.equal(ExactSampler().sample(*problem, 9, seeded()), drawn)


def test_log_probabilities_of_all_states_sum_to_one():
    fields, couplings = ising(3, 6)
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64).expand(3, -1, -1)
    total = ExactSampler().log_probability(states, fields, couplings).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("shared", [True, False])
def test_twenty_spins_agree_with_the_transfer_matrix_of_a_chain(shared):
    spins, coupling, field = 20, 0.7, 0.3
    couplings = coupling * (torch.ones(spins, spins).triu(1) - torch.ones(spins, spins).triu(2))
    couplings = (couplings + couplings.T).double()
    fields = torch.full((2, spins), field, dtype=torch.float64)
    end = torch.tensor([field, -field], dtype=torch.float64).exp()
    transfer = (coupling * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)).exp() * end
    expected = (end @ torch.linalg.matrix_power(transfer, spins - 1)).sum().log()
    log_z = ExactSampler().log_partition(fields, couplings if shared else couplings.expand(2, -1, -1))
    torch.testing.assert_close(log_z, expected.expand(2))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sampler", [ExactSampler(), GibbsSampler(sweeps=60, chains=4000)], ids=["exact", "gibbs"])
def test_independent_states_have_the_exact_moments(sampler, shared):
    problem = ising(4, 10, shared, size=0.3)
    states = sampler.sample(*problem, 4000, seeded())
    check_samples(states, problem[0], 4000, "tested")
    assert isinstance(sampler, Sampler)
    assert_moments_agree(states, *problem, effective=4000)


def test_thinned_states_of_few_chains_have_the_exact_moments():
    # Weak couplings: after 5 sweeps correlations are below 0.1, so half of the states count as independent.
    problem = ising(4, 10, size=0.1)
    states = GibbsSampler(sweeps=20, chains=8, thin=5).sample(*problem, 4001, seeded())
    assert_moments_agree(states, *problem, effective=2000)


def test_more_spins_than_a_draw_of_thresholds_have_the_exact_moments():
    """300 spins that fall apart into 30 groups of 10: the exact moments of a group are its part of the problem's."""
    fields, blocks = ising(30, 10, shared=False, size=0.3)
    states = GibbsSampler(sweeps=60, chains=2000).sample(
        fields.reshape(1, -1), torch.block_diag(*blocks), 2000, seeded()
    )
    assert_moments_agree(states.reshape(2000, 30, 10).transpose(0, 1), fields, blocks, effective=2000)


def test_long_chains_keep_their_local_fields():
    """More sweeps than between two refreshes of the fields, on couplings so strong that drift would show."""
    problem = ising(2, 6, size=0.3)
    states = GibbsSampler(sweeps=1500, chains=3000).sample(*problem, 3000, seeded())
    assert_moments_agree(states, *problem, effective=3000)


def test_thresholds_follow_the_logistic_distribution():
    thresholds, words = np.empty(2**20, np.float32), np.empty(2**19, np.uint64)
    draw_thresholds(np.uint64(12345), np.uint64(0), words, thresholds)
    u = ((words.view(np.uint32) >> 1) + 0.5) / 2**31
    np.testing.assert_allclose(thresholds, np.log(u / (1 - u)) / 2, rtol=0, atol=3e-7)
    probability = 1 / (1 + np.exp(-2 * np.sort(thresholds.astype(float))))
    distance = np.abs(probability - (np.arange(2**20) + 0.5) / 2**20).max()
    assert distance < 1.95 / 2**10  # Kolmogorov-Smirnov, one false alarm in a thousand
    odd, even = thresholds[1::2] - thresholds.mean(), thresholds[::2] - thresholds.mean()
    assert abs((odd * even).mean() / thresholds.var()) < 5 / 2**9.5


def test_an_update_of_one_spin_is_in_detailed_balance():
    """The transition matrix of three spins, counted from 100,000 chains that start in each state."""
    chains, spins = 100_000, 3
    fields, couplings = ising(1, spins, size=0.8)
    states = np.array(list(itertools.product([-1, 1], repeat=spins)), np.float32)
    exponent = states @ fields[0].numpy() + np.einsum("sj,jk,sk->s", states, couplings.numpy(), states) / 2
    p = np.exp(exponent) / np.exp(exponent).sum()
    for j in range(spins):
        transition = count_transitions(j, fields, couplings, states, chains)
        forward, error = p[:, None] * transition, p[:, None] * np.sqrt(transition * (1 - transition) / chains)
        assert (transition > 0).sum() == 16
        assert (np.abs(forward - forward.T) <= 5 * np.hypot(error, error.T)).all()
        assert (np.abs(p @ transition - p) <= 5 * np.sqrt((error**2).sum(0)) + 1e-12).all()


def count_transitions(j, fields, couplings, states, chains):
    rows = np.zeros((len(fields[0]), LANES), np.float32)
    rows[:, : len(rows)] = couplings.numpy()
    current = np.repeat(states, chains, 0)
    bias = np.tile(fields.numpy().astype(np.float32), (len(current), 1))
    local = np.empty((len(current), LANES), np.float32)
    set_fields(bias, rows, current, local)
    thresholds, words = np.empty(len(current), np.float32), np.empty(len(current) // 2, np.uint64)
    draw_thresholds(np.uint64(99), np.uint64(j * len(words)), words, thresholds)
    scratch = np.empty(len(current), np.int64), np.empty(len(current), np.float32)
    update_spin(j, rows[j], thresholds, current, local, *scratch)
    np.testing.assert_allclose(local[:, :3], bias + current @ rows[:, :3], atol=1e-6)
    after = ((current > 0) @ np.array([4, 2, 1])).reshape(len(states), chains)
    return np.stack([np.bincount(row, minlength=len(states)) for row in after]) / chains


def test_states_depend_on_the_seed_but_not_on_the_number_of_threads():
    problem = ising(50, 33)
    threads = torch.get_num_threads()
    drawn = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            drawn.append(GibbsSampler(chains=3).sample(*problem, 7, seeded()))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], GibbsSampler(chains=3).sample(*problem, 7, seeded(1)))


def test_shared_couplings_give_the_states_that_repeated_ones_give():
    fields, couplings = ising(20, 12)
    together = GibbsSampler(chains=4).sample(fields, couplings, 8, seeded())
    each = GibbsSampler(chains=4).sample(fields, couplings.expand(20, -1, -1), 8, seeded())
    assert torch.equal(together, each)
    exact = [ExactSampler().moments(fields, j) for j in (couplings, couplings.expand(20, -1, -1))]
    torch.testing.assert_close(*exact)


@pytest.mark.parametrize("sampler", [ExactSampler(), GibbsSampler(sweeps=2)], ids=["exact", "gibbs"])
def test_the_same_seed_gives_the_same_states_in_the_dtype_of_the_fields(sampler):
    fields, couplings = ising(3, 5, dtype=torch.float32)
    first, second = (sampler.sample(fields, couplings, 6, seeded()) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert sampler.sample(fields.double(), couplings.double(), 6, seeded()).dtype == torch.float64


def test_chains_stay_with_their_examples_whatever_batch_these_come_in():
    """At zero temperature a ferromagnet never flips: only kept chains can remember which way they went."""
    couplings = 20 * (torch.ones(8, 8) - torch.eye(8))
    fields = torch.zeros(3, 8)
    sampler = GibbsSampler(chains=16)
    first = sampler.go_on(fields, couplings, 16, seeded(0), torch.tensor([4, 9, 2]))
    shuffled = sampler.go_on(fields, couplings, 16, seeded(1), torch.tensor([2, 4, 9]))
    assert torch.equal(shuffled, first[[2, 0, 1]])
    assert not torch.equal(sampler.sample(fields, couplings, 16, seeded(1)), first)
    assert not torch.equal(sampler.go_on(fields, couplings, 16, seeded(2), torch.tensor([5, 6, 7])), first)


def test_chains_that_go_on_are_at_their_distribution_after_few_sweeps():
    """One sweep a call, fields that drift: after 400 calls the means are exact to five standard errors."""
    fields, couplings = ising(1, 6)
    fields, examples = fields.expand(400, -1), torch.arange(400)
    sampler, generator = GibbsSampler(sweeps=1, chains=16, thin=1), seeded()
    for call in range(40):
        drift = fields * (call / 39)
        states = sampler.go_on(drift, couplings, 16, generator, examples)
    mean, _ = ExactSampler().moments(fields[:1], couplings)
    error = ((1 - mean.square()) / (400 * 16)).sqrt()
    assert ((states.flatten(0, 1).mean(0) - mean[0]).abs() < 5 * error[0] + 1e-3).all()


def test_chains_restore_from_their_state():
    problem = ising(5, 9)
    kept, restored = (GibbsSampler(chains=4, thin=1) for _ in range(2))
    examples = torch.arange(5)
    kept.go_on(*problem, 8, seeded(0), examples)
    restored.load_state_dict({name: chains.clone() for name, chains in kept.state_dict().items()})
    kept_next, restored_next = (sampler.go_on(*problem, 8, seeded(1), examples) for sampler in (kept, restored))
    assert torch.equal(kept_next, restored_next)
    assert {tuple(chains.shape) for chains in kept.state_dict().values()} == {(5, 4, 9)}


def test_an_example_that_occurs_twice_keeps_its_last_chains():
    couplings = 20 * (torch.ones(6, 6) - torch.eye(6))
    fields = torch.zeros(2, 6)
    sampler = GibbsSampler(chains=16)
    first = sampler.go_on(fields, couplings, 16, seeded(0), torch.tensor([1, 1]))
    again = sampler.go_on(fields[:1], couplings, 16, seeded(1), torch.tensor([1]))
    assert torch.equal(again[0], first[1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("sampler", [ExactSampler(), GibbsSampler()], ids=["exact", "gibbs"])
def test_an_empty_batch_gives_no_states(sampler):
    assert sampler.sample(torch.zeros(0, 4), torch.zeros(4, 4), 3, seeded()).shape == (0, 3, 4)


@pytest.mark.parametrize("method", ["sample", "log_partition", "moments"])
def test_exact_refuses_more_spins_than_it_can_enumerate_and_names_gibbs(method):
    arguments = (2, seeded()) if method == "sample" else ()
    with pytest.raises(InputError, match=r"21 spins; it enumerates at most 20, use gibbs"):
        getattr(ExactSampler(), method)(torch.zeros(1, 21), torch.zeros(21, 21), *arguments)


@pytest.mark.parametrize("sampler", [ExactSampler(), GibbsSampler()], ids=["exact", "gibbs"])
def test_what_is_no_ising_problem_is_refused(sampler):
    fields, couplings = ising(2, 4)
    with pytest.raises(InputError, match="symmetric"):
        sampler.sample(fields, couplings.triu(), 1, seeded())
    with pytest.raises(InputError, match="diagonal"):
        sampler.sample(fields, couplings + torch.eye(4), 1, seeded())
    with pytest.raises(InputError, match="NaN or infinite"):
        sampler.sample(fields / 0, couplings, 1, seeded())


@pytest.mark.parametrize("name", ["sweeps", "chains", "thin"])
def test_gibbs_refuses_numbers_below_one(name):
    with pytest.raises(InputError, match=rf"gibbs: {name} is 0; expected at least 1"):
        GibbsSampler(**{name: 0})


def test_gibbs_refuses_to_restore_what_are_no_spins():
    with pytest.raises(InputError, match=r"chains 'train' have .* values from 2 to 2; expected"):
        GibbsSampler().load_state_dict({"train": torch.full((2, 3, 4), 2, dtype=torch.int8)})
