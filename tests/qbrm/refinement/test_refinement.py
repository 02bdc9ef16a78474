import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qbrm.energies import EBRM, RBM
from qbrm.refinement import REFINEMENTS, Ascent, refine

pytestmark = pytest.mark.usefixtures("one_thread")
unhurried = settings(deadline=None, max_examples=30)


def examples(dim=3, n=8, seed=7, spread=2.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(n, dim, generator=generator, dtype=dtype)
    return embedding, 1.3 + spread * torch.randn(n, generator=generator, dtype=dtype)


def published_ascent(f, start, steps=50, step_size=0.5, shrink=0.1, smallest_step=1e-6):
    """The published loop for one example: both values and the slope anew at every step."""
    reward = start.clone()
    for _ in range(steps):
        if step_size < smallest_step:
            break
        variable = reward.clone().requires_grad_()
        value = f(variable)
        (slope,) = torch.autograd.grad(value, variable)
        proposal = reward + step_size * slope
        if f(proposal) > value:
            reward = proposal
        else:
            step_size *= shrink
    return reward


@pytest.mark.parametrize("name", ["mode", "mean"])
def test_refinement_starts_as_the_identity(machine, name):
    score = machine().float()
    with torch.no_grad():
        for parameter in (score.W, score.c, score.u, score.a, score.a0):
            parameter.zero_()
    embedding, base_reward = examples(n=200, spread=5.0)
    refined = refine(score, embedding, base_reward, REFINEMENTS[name])
    torch.testing.assert_close(refined, base_reward, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["mode", "mean"])
def test_refined_rewards_are_those_of_a_fine_grid_in_original_units(machine, free_energy, name):
    score = machine(seed=2)
    embedding, base_reward = examples()
    grid = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    f = free_energy(score, embedding, base_reward, grid)
    weight = (f - f.amax(1, keepdim=True)).exp()
    expected = {"mode": grid[f.argmax(1)], "mean": (weight * grid).sum(1) / weight.sum(1)}[name]
    refined = refine(score.float(), embedding, base_reward, REFINEMENTS[name])
    error = {"mode": 0.0011, "mean": 1e-5}[name]  # half a node, and rounding
    torch.testing.assert_close(refined.double(), expected, rtol=0, atol=error)


@pytest.mark.parametrize("name", REFINEMENTS)
def test_refining_a_table_in_chunks_is_refining_it_at_once(name, tmp_path):
    torch.manual_seed(0)
    score = RBM(2, hidden=3)
    with torch.no_grad():
        score.W.normal_()
        score.a.normal_()
    chunk = score.chunk_rows
    n = chunk + 300
    embedding, base_reward = examples(dim=2, n=n)
    base_reward = base_reward.clamp(-2, 2)  # so that no ascent starts at random
    rows = torch.tensor([0, 1, chunk - 1, chunk, chunk + 1, n - 1])
    expected = refine(score, embedding[rows], base_reward[rows], REFINEMENTS[name])
    np.save(tmp_path / "embedding.npy", embedding.numpy())
    mapped = np.load(tmp_path / "embedding.npy", mmap_mode="r")
    for table, rewards in ((embedding, base_reward), (mapped, base_reward.numpy())):
        refined = refine(score, table, rewards, REFINEMENTS[name])
        assert refined.shape == (n,)
        torch.testing.assert_close(refined[rows], expected, rtol=0, atol=1e-5)


def test_memory_mapped_features_are_read_without_a_warning(tmp_path):
    np.save(tmp_path / "embedding.npy", np.ones((5, 2), np.float32))
    np.save(tmp_path / "reward.npy", np.ones(5, np.float32))
    embedding, base_reward = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("embedding", "reward"))
    was = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refine(RBM(2), embedding, base_reward)
    finally:
        torch.set_warn_always(was)


@pytest.mark.parametrize("name", REFINEMENTS)
@pytest.mark.parametrize("kind", [RBM, EBRM])
def test_no_responses_refine_to_no_rewards(kind, name):
    assert refine(kind(2), torch.zeros(0, 2), torch.zeros(0), REFINEMENTS[name]).shape == (0,)


# ------------------------------------------------------------------------------------------------------ ascent


@pytest.mark.parametrize("shrink", [0.1, 0.2])
def test_ascent_is_the_published_loop_for_ebrm(small_ebrm, published_network, shrink):
    score = small_ebrm(dim=4, size=4.0)
    network = published_network(score)
    embedding, base_reward = examples(dim=4, n=8, spread=5.0, dtype=torch.float64)
    standard = (base_reward - score.reward_loc) / score.reward_scale
    random = torch.empty(8, dtype=torch.float64).uniform_(-4, 4, generator=torch.Generator().manual_seed(9))
    start = torch.where(standard.abs() <= 2, standard, random)
    assert 2 < int((standard.abs() <= 2).sum()) < 7

    expected = []
    for row in range(8):

        def f(reward, row=row):
            return network(embedding[row, None], reward[None, None])[0, 0]

        expected.append(published_ascent(f, start[row], shrink=shrink))
    expected = torch.stack(expected)
    clamped = score.clamp(embedding, base_reward)
    got = Ascent(shrink=shrink)(score, clamped, torch.Generator().manual_seed(9))
    # Near a maximum, rounding of f decides which last steps are kept: that is worth the square root of it in r.
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert ((expected - start).abs() > 0.01).sum() > 4  # it went somewhere
    refined = refine(score, embedding, base_reward, Ascent(shrink=shrink), seed=9)
    torch.testing.assert_close(refined.double(), expected * score.reward_scale + score.reward_loc, rtol=1e-6, atol=1e-6)


def test_ascent_is_the_published_loop_for_boltzmann_machines(machine, free_energy):
    score = machine(seed=3)
    embedding, base_reward = examples(n=12, spread=5.0, dtype=torch.float64)
    clamped = score.clamp(embedding, base_reward)
    start = Ascent().start(clamped.base_reward, torch.Generator().manual_seed(9))

    expected = []
    for row in range(12):

        def f(reward, row=row):
            raw = reward * score.reward_scale + score.reward_loc
            return free_energy(score, embedding[row, None], base_reward[row, None], raw[None, None])[0, 0]

        expected.append(published_ascent(f, start[row]))
    got = Ascent()(score, clamped, torch.Generator().manual_seed(9))
    torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-6)


def test_ascent_starts_at_small_base_rewards_and_anywhere_for_others():
    base_reward = torch.cat(
        [torch.linspace(-2, 2, 401), torch.linspace(2.01, 50, 5000), -torch.linspace(2.01, 50, 5000)]
    )
    start = Ascent().start(base_reward, torch.Generator().manual_seed(0))
    assert torch.equal(start[:401], base_reward[:401])
    others = start[401:]
    assert float(others.min()) == pytest.approx(-4, abs=0.01)
    assert float(others.max()) == pytest.approx(4, abs=0.01)
    assert abs(float(others.mean())) < 4 * (8 / math.sqrt(12)) / 100  # four standard errors of a uniform's mean
    assert not torch.equal(start, Ascent().start(base_reward, torch.Generator().manual_seed(1)))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 8))
def test_ascent_never_lowers_the_f_of_ebrm(seed, size):
    torch.manual_seed(seed)
    score = EBRM(2).eval()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.mul_(size)
    clamped = score.clamp(*examples(dim=2, n=16, seed=seed, spread=4.0))
    check_ascent_never_lowers_f(score, clamped)


@unhurried
@given(seed=st.integers(0, 10_000), log_tau=st.floats(-3, 3), coupling=st.floats(0, 20))
def test_ascent_never_lowers_the_f_of_a_boltzmann_machine(machine, seed, log_tau, coupling):
    score = machine(seed=seed)
    with torch.no_grad():
        score.log_tau.fill_(log_tau)
        score.u.mul_(coupling)
    check_ascent_never_lowers_f(score, score.clamp(*examples(n=16, seed=seed, spread=8.0, dtype=torch.float64)))


@torch.no_grad()
def check_ascent_never_lowers_f(score, clamped):
    start = Ascent().start(clamped.base_reward, torch.Generator().manual_seed(1))
    end = Ascent()(score, clamped, torch.Generator().manual_seed(1))
    before, after = (score.at(clamped, reward[:, None])[:, 0] for reward in (start, end))
    rounding = 4 * torch.finfo(before.dtype).eps * (1 + before.abs())  # of evaluating fewer rows at a time
    assert end.isfinite().all()
    assert (after >= before - rounding).all()


def test_ascent_ends_at_the_mode_of_a_log_concave_density(machine):
    score = machine(size=0.3)
    with torch.no_grad():
        score.log_tau.zero_()
    embedding, base_reward = examples(n=50, spread=6.0, dtype=torch.float64)
    clamped = score.clamp(embedding, base_reward)
    end = Ascent()(score, clamped, torch.Generator().manual_seed(0))
    torch.testing.assert_close(end, score.mode(clamped).detach(), rtol=0, atol=1e-5)


def test_the_seed_settles_the_random_starts(small_ebrm):
    score = small_ebrm()
    embedding, base_reward = examples(n=60, spread=10.0, dtype=torch.float64)
    first, same, other = (refine(score, embedding, base_reward, REFINEMENTS["ascent"], seed=s) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    small = (score.to_standard(base_reward).abs() <= 2).nonzero()[:, 0]
    assert len(small) > 3
    torch.testing.assert_close(first[small], other[small], rtol=0, atol=1e-5)
