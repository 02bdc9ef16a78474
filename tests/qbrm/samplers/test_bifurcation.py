"""Simulated bifurcation: low energies, a temperature that it is told to have, no state of its own."""

import pytest
import torch

from qbrm.errors import InputError
from qbrm.interop.ising import Ising, log_weight
from qbrm.samplers import SAMPLERS, BifurcationSampler

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("simulated_bifurcation", reason="needs the extra qbrm[bifurcation]")


def problem(spins=6, size=0.5, seed=0):
    random = torch.Generator().manual_seed(seed)
    couplings = size * torch.randn(spins, spins, generator=random).triu(1)
    return size * torch.randn(2, spins, generator=random), couplings + couplings.T


def draw(sampler, fields, couplings, samples=200, seed=0):
    return sampler.sample(fields, couplings, samples, torch.Generator().manual_seed(seed))


def test_a_whole_run_finds_the_most_likely_state():
    fields, couplings = problem()
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6)
    spins = draw(BifurcationSampler(steps=1000), fields, couplings)
    for row in range(2):
        weights = log_weight(Ising(fields[row], couplings), states)
        found = log_weight(Ising(fields[row], couplings), spins[row])
        assert (found == weights.max()).float().mean() > 0.9


def test_more_steps_make_colder_states_and_the_estimate_says_so():
    fields, couplings = problem()
    betas = []
    for steps in (10, 100, 1000):
        sampler = BifurcationSampler(steps=steps)
        draw(sampler, fields, couplings)
        betas.append(sampler.effective_beta)
    assert betas[0] < betas[1] < betas[2]
    assert betas[2] > 10


def test_the_same_seed_gives_the_same_states_and_leaves_torchs_own_generator_alone():
    fields, couplings = problem()
    before = torch.get_rng_state()
    first, second, other = (draw(SAMPLERS["bifurcation"](), fields, couplings, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_fewer_than_one_step_is_refused():
    with pytest.raises(InputError, match=r"^bifurcation: steps is 0; expected at least 1\.$"):
        BifurcationSampler(steps=0)
