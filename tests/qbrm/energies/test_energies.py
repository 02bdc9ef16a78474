import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from qbrm.energies import EBRM, ENERGY_SCORES, RBM, Clamped, SemiQuantumRBM
from qbrm.energies.ebrm import HalfDropout
from qbrm.energies.familiarity import fit_familiarity
from qbrm.energies.log_cosh import log_cosh_of_square, tanh_over
from qbrm.energies.newton import Slope, newton_mode

pytestmark = pytest.mark.usefixtures("one_thread")
unhurried = settings(deadline=None, max_examples=25)
PAULI = {
    "z": np.array([[1, 0], [0, -1]], complex),
    "x": np.array([[0, 1], [1, 0]], complex),
    "y": np.array([[0, -1j], [1j, 0]], complex),
}


def examples(dim=3, n=5, seed=7):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    base_reward, reward = 2 * torch.randn(2, n, generator=generator, dtype=torch.float64)
    return embedding, base_reward, reward


def numpy_parameters(score):
    return {name: value.detach().numpy() for name, value in score.named_parameters()}


def gaussian_energy(p, r0, e, r):
    mu = r0 + p["a"] @ e + p["a0"]
    return (r - mu) ** 2 / (2 * np.exp(p["log_tau"]) ** 2) + (p["u"] ** 2).sum() * r**2 / 2


def on_qubit(operator, j, qubits):
    factors = [operator if k == j else np.eye(2) for k in range(qubits)]
    product = np.eye(1)
    for factor in factors:
        product = np.kron(product, factor)
    return product


def log_trace_of_gibbs_state(score, r0, e, r):
    """Log Tr exp(-H) for the explicit 2^M by 2^M Hamiltonian, less the M log 2 by which f is centred."""
    p, m = numpy_parameters(score), score.hidden
    hamiltonian = gaussian_energy(p, r0, e, r) * np.eye(2**m, dtype=complex)
    for axis, name in zip(range(score.axes), "zxy", strict=False):
        for j in range(m):
            field = p["W"][axis, j] @ e + p["c"][axis, j] + r * p["u"][axis, j]
            hamiltonian -= field * on_qubit(PAULI[name], j, m)
    trace = torch.matrix_exp(-torch.from_numpy(hamiltonian)).diagonal().sum()
    assert abs(trace.imag) < 1e-9 * abs(trace)
    return float(trace.real.log()) - m * math.log(2)


def test_rbm_free_energy_is_the_log_sum_over_all_spin_states():
    torch.manual_seed(0)
    score = RBM(3, hidden=6).double()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.normal_(std=0.7)
    p = numpy_parameters(score)
    embedding, base_reward, reward = examples()
    expected = []
    for e, r0, r in zip(embedding.numpy(), base_reward.numpy(), reward.numpy(), strict=True):
        weights = []
        for spins in itertools.product((-1, 1), repeat=6):
            field = p["W"][0] @ e + p["c"][0] + r * p["u"][0]
            weights.append(math.exp(-gaussian_energy(p, r0, e, r) + field @ np.array(spins)))
        expected.append(math.log(sum(weights)) - 6 * math.log(2))
    assert score(embedding, base_reward, reward).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_sqrbm_free_energy_is_the_log_trace_of_the_gibbs_state(axes):
    torch.manual_seed(axes)
    score = SemiQuantumRBM(3, hidden=4, axes=axes).double()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.normal_(std=0.7)
    inputs = examples()
    expected = [
        log_trace_of_gibbs_state(score, r0, e, r) for e, r0, r in zip(*(x.numpy() for x in inputs), strict=True)
    ]
    assert score(*inputs).tolist() == pytest.approx(expected, abs=1e-11)


def test_a_constant_transverse_field_is_an_x_axis_that_sees_nothing():
    torch.manual_seed(3)
    score = SemiQuantumRBM(3, hidden=3, axes=2).double()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.normal_(std=0.7)
        score.W[1] = 0
        score.u[1] = 0
    inputs = examples()
    expected = [
        log_trace_of_gibbs_state(score, r0, e, r) for e, r0, r in zip(*(x.numpy() for x in inputs), strict=True)
    ]
    assert score(*inputs).tolist() == pytest.approx(expected, abs=1e-11)
    with torch.no_grad():
        score.c[1] = 0
    assert (score(*inputs) < torch.tensor(expected) - 1e-3).all()  # so the transverse field was felt above


@pytest.mark.parametrize("axes", [2, 3])
def test_no_direction_in_the_qubits_space_is_special(axes):
    torch.manual_seed(4)
    score = SemiQuantumRBM(3, hidden=4, axes=axes).double()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.normal_(std=0.7)
    inputs = examples()
    before = score(*inputs)
    rotation = torch.linalg.qr(torch.randn(axes, axes, dtype=torch.float64))[0]
    with torch.no_grad():
        for parameter in (score.W, score.c, score.u):
            parameter.copy_(torch.einsum("ab,b...->a...", rotation, parameter))
    torch.testing.assert_close(score(*inputs), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("anchored", [True, False])
def test_free_energy_is_the_formula_in_the_reward_models_own_units(machine, anchored):
    score = machine(anchored=anchored)
    p = numpy_parameters(score)
    loc, scale = float(score.reward_loc), float(score.reward_scale)
    # Parameters per raw unit of embedding and reward: what a reader would fit without any standardising.
    u = p["u"] / scale
    weight, slope = (x / score.embedding_scale.numpy() for x in (p["W"], scale * p["a"]))
    bias = p["c"] - weight @ score.embedding_loc.numpy() - u * loc
    shift = scale * p["a0"] - slope @ score.embedding_loc.numpy()
    tau = scale * np.exp(p["log_tau"])
    embedding, base_reward, reward = examples()
    expected = []
    for e, r0, r in zip(embedding.numpy(), base_reward.numpy(), reward.numpy(), strict=True):
        mu = (r0 if anchored else loc) + slope @ e + shift
        lengths = np.linalg.norm(weight @ e + bias + r * u, axis=0)
        stabiliser = (u**2).sum() * (r - loc) ** 2 / 2
        expected.append(-((r - mu) ** 2) / (2 * tau**2) - stabiliser + np.log(np.cosh(lengths)).sum())
    assert score(embedding, base_reward, reward).tolist() == pytest.approx(expected, abs=1e-11)


def test_standardising_makes_the_units_of_embedding_and_reward_immaterial(machine):
    score, rescaled = machine(units=False), machine(units=False)
    embedding, base_reward, reward = examples(n=40)
    stretch, offset = torch.tensor([0.01, 3.0, 500.0]).double(), torch.tensor([5.0, -2.0, 900.0]).double()
    score.standardise(embedding, base_reward)
    rescaled.standardise(embedding * stretch + offset, base_reward * 7 - 30)
    expected = score(embedding, base_reward, reward)
    got = rescaled(embedding * stretch + offset, base_reward * 7 - 30, reward * 7 - 30)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(score.to_standard(base_reward).mean(), torch.zeros(()).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(score.to_standard(base_reward).std(), torch.ones(()).double(), rtol=0, atol=1e-12)


def test_a_constant_dimension_and_a_constant_reward_can_be_standardised(machine):
    score = machine(units=False)
    embedding, base_reward, reward = examples(n=20)
    embedding[:, 1] = 4.0
    score.standardise(embedding, torch.full_like(base_reward, 2.5))
    assert score(embedding, torch.full_like(base_reward, 2.5), torch.full_like(reward, 2.5)).isfinite().all()


def test_every_score_is_rebuilt_by_its_settings_and_state(machine, small_ebrm):
    for score in (machine(anchored=False, coupling=0.5), small_ebrm()):
        name = {RBM: "rbm", SemiQuantumRBM: "sqrbm", EBRM: "ebrm"}[type(score)]
        twin = ENERGY_SCORES[name](**score.settings()).double().eval()
        twin.load_state_dict(score.state_dict())
        inputs = examples()
        assert torch.equal(twin(*inputs), score(*inputs))


@pytest.mark.parametrize("axes", [0, 4])
def test_there_are_only_three_pauli_axes(axes):
    with pytest.raises(ValueError, match=f"axes is {axes}"):
        SemiQuantumRBM(3, axes=axes)


def test_zero_weights_leave_a_normal_density_around_the_base_reward(machine):
    score = machine()
    with torch.no_grad():
        for parameter in (score.W, score.c, score.u, score.a, score.a0):
            parameter.zero_()
    embedding, base_reward, reward = examples()
    tau = score.log_tau.exp() * score.reward_scale
    expected = -((reward - base_reward) ** 2) / (2 * tau**2)
    torch.testing.assert_close(score(embedding, base_reward, reward), expected, rtol=0, atol=1e-12)


def test_a_new_score_refines_to_the_base_rewards_sign_and_order(machine):
    """W = 0 and a = 0 at the start: f knows nothing of e, so r* is an odd, increasing function of r0."""
    torch.manual_seed(0)
    score = type(machine())(3, hidden=4).double()
    base_reward = torch.linspace(-3, 3, 25, dtype=torch.float64)
    embedding = torch.randn(25, 3, dtype=torch.float64)
    refined = score.mode(score.clamp(embedding, base_reward)).detach()
    torch.testing.assert_close(refined, -refined.flip(0), rtol=0, atol=1e-9)
    assert (refined.diff() > 0).all()


# ---------------------------------------------------------------------------------------------------- log cosh


@pytest.mark.parametrize("length", [0.0, 1e-12, 1e-8, 1e-5, 9.9e-5, 1.01e-4, 1e-3, 0.3, 1.0, 20.0, 700.0])
def test_log_cosh_of_a_fields_squared_length_is_log_cosh_of_its_length(length):
    got = log_cosh_of_square(torch.tensor(length**2, dtype=torch.float64))
    assert float(got) == pytest.approx(math.log(math.cosh(length)), rel=1e-12, abs=1e-15)


def test_log_cosh_of_a_huge_field_is_its_length_less_log_two():
    for dtype in (torch.float32, torch.float64):
        square = torch.tensor([1e6, 1e12], dtype=dtype, requires_grad=True)
        value = log_cosh_of_square(square)
        expected = torch.tensor([1e3 - math.log(2), 1e6 - math.log(2)], dtype=dtype)
        torch.testing.assert_close(value, expected)
        (slope,) = torch.autograd.grad(value.sum(), square)
        torch.testing.assert_close(slope, torch.tensor([0.5e-3, 0.5e-6], dtype=dtype))


def test_log_cosh_is_smooth_where_the_field_vanishes():
    for dtype in (torch.float32, torch.float64):
        square = torch.tensor([0.0, 1e-30, 1e-10, 1e-8, 2e-8], dtype=dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(log_cosh_of_square(square).sum(), square)
        torch.testing.assert_close(slope, torch.full((5,), 0.5, dtype=dtype), rtol=0, atol=1e-7)


def test_the_slope_of_log_cosh_is_that_of_finite_differences():
    square = torch.tensor([1e-3, 0.1, 1.0, 7.0, 300.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_cosh_of_square, square, eps=1e-6, atol=1e-9)


def test_log_cosh_has_its_true_second_derivative_or_refuses_to_give_one():
    square = torch.tensor([0.3, 1.0, 7.0], dtype=torch.float64, requires_grad=True)
    try:
        # A term that depends on `square` too, as in a score: without it torch would notice a missing graph by luck.
        value = (square * log_cosh_of_square(square)).sum()
        (slope,) = torch.autograd.grad(value, square, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), square)
    except RuntimeError:
        return
    h = 1e-4
    plain = [x * np.log(np.cosh(np.sqrt(x))) for x in (square.detach().numpy() + k * h for k in (-1, 0, 1))]
    assert bend.tolist() == pytest.approx((plain[0] - 2 * plain[1] + plain[2]) / h**2, abs=1e-5)


def test_tanh_over_its_argument_is_one_at_zero_and_falls_to_zero():
    length = torch.tensor([0.0, 1e-9, 9.9e-5, 1.01e-4, 0.5, 3.0, 1e4], dtype=torch.float64)
    expected = [1.0] + [math.tanh(x) / x for x in length[1:].tolist()]
    assert tanh_over(length).tolist() == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------------------- derivatives in the reward


def first_and_second(free_energy, score, embedding, base_reward, reward):
    """f' and f'' in standardised units, by automatic differentiation of the formula written by hand."""
    standard = reward.clone().requires_grad_()
    raw = standard * score.reward_scale + score.reward_loc
    value = free_energy(score, embedding, base_reward, raw[:, None])[:, 0]
    (first,) = torch.autograd.grad(value.sum(), standard, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), standard)
    return first.detach(), second


@pytest.mark.parametrize("size", [0.1, 0.7, 5.0])
def test_the_analytic_slope_is_that_of_automatic_differentiation(machine, free_energy, size):
    score = machine(size=size)
    with torch.no_grad():
        score.log_tau.fill_(-0.4)
    embedding, base_reward, reward = examples(n=30)
    slope = score.slope(score.clamp(embedding, base_reward))(reward)
    first, second = first_and_second(free_energy, score, embedding, base_reward, reward)
    torch.testing.assert_close(slope.first, first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope.second, second, rtol=1e-9, atol=1e-9)


def test_the_analytic_slope_holds_where_all_fields_vanish(machine):
    """There b_j = 0, so k = 1 and f'' is |u|^2 - |u|^2 - 1 / tau^2 exactly."""
    score = machine(units=False)
    with torch.no_grad():
        score.W.zero_()
        score.c.zero_()
    clamped = score.clamp(*examples()[:2])
    slope = score.slope(clamped)(torch.zeros(5, dtype=torch.float64))
    precision = torch.exp(-2 * score.log_tau.detach())
    torch.testing.assert_close(slope.first, clamped.mean.detach() * precision, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope.second, -precision.expand(5), rtol=0, atol=1e-6)


anything = {
    "seed": st.integers(0, 10_000),
    "log_tau": st.floats(-3, 3),
    "coupling": st.floats(0.01, 30),
    "field": st.floats(0.01, 100),
    "base_reward": st.floats(-100, 100),
}


def any_score(machine, seed, log_tau, coupling, field, anchored=True):
    score = machine(seed=seed, anchored=anchored)
    with torch.no_grad():
        score.log_tau.fill_(log_tau)
        score.u.mul_(coupling)
        score.W.mul_(field)
        score.c.mul_(field)
    return score


@unhurried
@given(**anything, rewards=st.lists(st.floats(-100, 100), min_size=2, max_size=6, unique=True))
def test_f_is_at_least_as_concave_as_a_normal_of_width_tau(
    machine, seed, log_tau, coupling, field, base_reward, rewards
):
    score = any_score(machine, seed, log_tau, coupling, field)
    embedding = examples(n=1, seed=seed)[0]
    clamped = score.clamp(embedding, torch.tensor([base_reward]).double())
    reward = torch.tensor(sorted(rewards)).double()
    precision, stiffness = torch.exp(-2 * score.log_tau).item(), score.stiffness.item()
    second = torch.cat([score.slope(clamped)(r[None]).second for r in reward])
    assert (second <= -precision + 1e-12 * stiffness).all()
    assert (second >= -stiffness * (1 + 1e-12)).all()
    # The same of f itself: f + r^2 / (2 tau^2) lies above its chords.
    middle = (reward[:-1] + reward[1:]) / 2
    lifted = [score.at(clamped, x[None])[0] + precision * x**2 / 2 for x in (reward[:-1], middle, reward[1:])]
    rounding = 1e-12 * (1 + (stiffness + precision) * 100**2 + abs(lifted[1].detach()))
    assert (lifted[1] >= (lifted[0] + lifted[2]) / 2 - rounding).all()


# ------------------------------------------------------------------------------------------------ Newton's mode

HARD = {
    "easy": {"log_tau": 0.0, "coupling": 1.0, "field": 1.0},
    "strong coupling": {"log_tau": 0.0, "coupling": 50.0, "field": 1.0},
    "strong coupling, wide": {"log_tau": 2.5, "coupling": 50.0, "field": 1.0},
    "conflicting fields": {"log_tau": 1.5, "coupling": 8.0, "field": 40.0},
    "huge fields": {"log_tau": 0.0, "coupling": 1.0, "field": 1e4},
    "narrow": {"log_tau": -3.0, "coupling": 1.0, "field": 3.0},
    "nearly flat": {"log_tau": 4.0, "coupling": 0.05, "field": 3.0},
}


@pytest.mark.parametrize("case", HARD)
def test_newtons_mode_is_where_a_fine_grid_finds_f_greatest(machine, free_energy, case):
    score = any_score(machine, 5, **HARD[case])
    embedding, base_reward, _ = examples(n=10)
    base_reward = 5 * base_reward
    clamped = score.clamp(embedding, base_reward)
    mode = score.mode(clamped).detach()
    # Nothing pulls harder than all spins together: |r| / tau^2 + |u|^2 |r| <= |mu| / tau^2 + sum |u_j|.
    precision, length = torch.exp(-2 * score.log_tau), score.u.square().sum(0).sqrt().sum()
    reach = 1.1 * ((clamped.mean.abs() * precision + length) / (precision + score.u.square().sum())).detach() + 0.1
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64) * reach[:, None]
    for _ in range(3):
        values = free_energy(score, embedding, base_reward, score.from_standard(grid))
        best = grid.gather(1, values.argmax(1, keepdim=True))
        spacing = grid[:, 1:2] - grid[:, :1]
        grid = best + torch.linspace(-1, 1, 2001, dtype=torch.float64) * spacing
    assert (best[:, 0].abs() < reach).all()
    # f is flat at its top: rounding of f hides differences in r of the root of it.
    blur = 4 * (1e-15 * (1 + values.abs().amax(1)) / precision).sqrt()
    assert ((mode - best[:, 0]).abs() <= spacing[:, 0] + blur).all()


@unhurried
@given(**anything, anchored=st.booleans())
def test_newtons_mode_is_the_root_of_f_prime(
    machine, free_energy, seed, log_tau, coupling, field, base_reward, anchored
):
    score = any_score(machine, seed, log_tau, coupling, field, anchored)
    embedding = examples(n=1, seed=seed)[0]
    anchor = torch.tensor([base_reward]).double()

    def f_prime(standard):
        return float(first_and_second(free_energy, score, embedding, anchor, torch.tensor([standard]).double())[0])

    clamped = score.clamp(embedding, anchor)
    far = (2 + 2 * clamped.mean.abs() + score.u.abs().sum() * score.tau**2).item()
    root = brentq(f_prime, -far, far, xtol=1e-10)
    mode = score.mode(clamped)
    assert mode.isfinite().all()
    assert float(mode) == pytest.approx(root, abs=2e-6 * (1 + abs(root)))


@unhurried
@given(**anything)
def test_newtons_mode_stays_where_the_hidden_units_can_pull_it(machine, seed, log_tau, coupling, field, base_reward):
    score = any_score(machine, seed, log_tau, coupling, field)
    embedding = examples(n=8, seed=seed)[0]
    clamped = score.clamp(embedding, torch.linspace(-base_reward, base_reward, 8).double())
    low, high = score.bracket(clamped)
    mode = score.mode(clamped)
    slack = 1e-4 * (1 + mode.abs())
    assert ((mode >= low - slack) & (mode <= high + slack)).all()


def test_newtons_method_is_safeguarded_where_plain_steps_diverge():
    """On f' = -arctan(8 (r - r*)) a plain Newton step from |r - r*| > 0.18 lands farther away than it started."""
    root = torch.linspace(-3, 3, 13, dtype=torch.float64)

    class ArctanSlope:
        def slope(self, clamped):
            def at(reward):
                x = 8 * (reward - clamped.base_reward)
                return Slope(-torch.atan(x), -8 / (1 + x.square()))

            return at

        def bracket(self, clamped):
            return torch.full_like(clamped.mean, -9), torch.full_like(clamped.mean, 7)

    start = Clamped(root[:, None], torch.zeros_like(root), root)
    torch.testing.assert_close(newton_mode(ArctanSlope(), start), root, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_newtons_mode_is_finite_for_absurd_embeddings_and_rewards(machine, dtype):
    score = machine().to(dtype)
    size = torch.tensor([0.0, 1e-20, 1.0, 1e3, 1e6, 1e9]).to(dtype)
    embedding = torch.ones(6, 3, dtype=dtype) * size[:, None]
    for base_reward in (torch.zeros(6, dtype=dtype), size, -size):
        clamped = score.clamp(embedding, base_reward)
        mode, (low, high) = score.mode(clamped), score.bracket(clamped)
        assert mode.isfinite().all()
        slack = 1e-3 * (1 + mode.abs())
        assert ((mode >= low - slack) & (mode <= high + slack)).all()


@pytest.mark.parametrize("coupling", [0.5, 5.0, 50.0])
def test_single_precision_finds_the_mode_of_double_precision(machine, coupling):
    score = any_score(machine, 11, 0.0, coupling, 5.0)
    embedding, base_reward, _ = examples(n=200)
    exact = score.mode(score.clamp(embedding, base_reward))
    single = score.float().mode(score.clamp(embedding.float(), base_reward.float())).double()
    # Rounding of f' (at most stiffness |r| eps, a few times over) divided by the least curvature, 1 / tau^2.
    rounding = 8 * 1.2e-7 * score.stiffness.item() * score.tau.item() ** 2 * (1 + exact.abs())
    assert ((single - exact).abs() <= rounding + 1e-5).all()


# ------------------------------------------------------------------------------------------------------- EBRM


@pytest.mark.parametrize("rows", [6, 1])
@pytest.mark.parametrize("training", [False, True])
def test_splitting_the_first_layer_changes_nothing_but_the_order_of_a_sum(small_ebrm, free_energy, training, rows):
    score = small_ebrm(dim=5).train(training)
    embedding, base_reward, _ = examples(dim=5, n=6)
    rewards = torch.randn(rows, 9, dtype=torch.float64)
    # In training both draw their dropout masks in the same order over the same shapes: one for each example and
    # reward, also where one row of rewards serves all examples.
    torch.manual_seed(1)
    expected = free_energy(score, embedding, base_reward, rewards)
    torch.manual_seed(1)
    got = score.at(score.clamp(embedding, base_reward), score.to_standard(rewards))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    torch.manual_seed(2)
    again = score.at(score.clamp(embedding, base_reward), score.to_standard(rewards))
    assert torch.equal(again, got) != training


def test_ebrm_reads_the_part_of_the_embedding_that_the_score_head_reads():
    torch.manual_seed(0)
    whole, part = EBRM(3).eval(), EBRM(5, reads=3).eval()
    part.load_state_dict(whole.state_dict())
    embedding, base_reward, reward = torch.randn(4, 5), torch.randn(4), torch.randn(4)
    assert torch.equal(part(embedding, base_reward, reward), whole(embedding[:, :3], base_reward, reward))


def test_dropout_halves_the_activations_at_random_and_keeps_their_mean():
    dropout = HalfDropout()
    torch.manual_seed(0)
    hidden = torch.randn(300, 401, requires_grad=True)
    dropped = dropout(hidden)
    kept = dropped != 0
    assert torch.equal(dropped[kept], 2 * hidden[kept])
    # 120,300 fair coins: the share of heads is within five standard errors, along both axes and between neighbours.
    assert float(kept.float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 120_300**0.5)
    for axis, count in ((0, 300), (1, 401)):
        assert (kept.float().mean(axis) - 0.5).abs().max() < 5 * 0.5 / count**0.5
    agreement = (kept[:, 1:] == kept[:, :-1]).float().mean()
    assert float(agreement) == pytest.approx(0.5, abs=5 * 0.5 / 120_000**0.5)
    assert not torch.equal(dropout(hidden) != 0, kept)
    (gradient,) = torch.autograd.grad(dropped.sum(), hidden)
    assert torch.equal(gradient, 2 * kept.float())
    assert torch.equal(dropout.eval()(hidden), hidden)


def test_ebrms_layers_are_the_published_ones():
    shapes = [tuple(parameter.shape) for parameter in EBRM(384).parameters()]
    layers = [(1, 16), (16, 32), (32, 64), (384 + 64, 1024), (1024, 512), (512, 1)]
    assert shapes == [shape for fan_in, fan_out in layers for shape in ((fan_out, fan_in), (fan_out,))]


def test_one_row_of_rewards_serves_all_examples(machine, small_ebrm):
    for score in (machine(), small_ebrm()):
        embedding, base_reward, _ = examples()
        clamped = score.clamp(embedding, base_reward)
        rewards = torch.linspace(-2, 2, 7, dtype=torch.float64)
        expected = torch.stack([score(embedding, base_reward, score.from_standard(r).expand(5)) for r in rewards], 1)
        torch.testing.assert_close(score.at(clamped, rewards[None]), expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(score.at(clamped.rows(slice(1, 3)), rewards[None]), expected[1:3])


def test_ebrms_mode_is_the_greatest_f_on_its_support(small_ebrm, free_energy):
    score = small_ebrm(dim=5).float()
    embedding, base_reward, _ = examples(dim=5, n=6)
    grid = torch.linspace(-10, 10, 1001, dtype=torch.float64)
    values = free_energy(score, embedding, base_reward, score.from_standard(grid))
    mode = score.mode(score.clamp(embedding.float(), base_reward.float()))
    at_mode = free_energy(score, embedding, base_reward, score.from_standard(mode)[:, None])[:, 0]
    spread = values.max(1).values - values.min(1).values
    assert (spread > 0.1).all()
    assert (at_mode >= values.max(1).values - 1e-3 * spread).all()
    assert (mode.abs() <= 10).all()


@torch.no_grad()
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scattered_qubits_cancel_at_zero_and_differ_in_what_they_read(axes):
    torch.manual_seed(0)
    score = SemiQuantumRBM(20, hidden=8, axes=axes)
    score.scatter()
    embedding = torch.randn(50, 20)
    mode = score.mode(score.clamp(embedding, torch.zeros(50)))
    torch.testing.assert_close(mode, torch.zeros(50), rtol=0, atol=1e-5)
    assert score.u.norm() == pytest.approx(score.coupling)
    fields = score.clamp(embedding, torch.zeros(50)).field
    assert fields.std() == pytest.approx(1, abs=0.2)
    assert torch.linalg.matrix_rank(score.W.flatten(0, 1)) == 4 * axes


@torch.no_grad()
@pytest.mark.parametrize("axes", [1, 2])
def test_a_closed_gate_leaves_the_base_reward_and_an_open_one_the_refined(axes):
    torch.manual_seed(0)
    score = RBM(6, hidden=4) if axes == 1 else SemiQuantumRBM(6, hidden=4)
    score.scatter()
    torch.nn.init.normal_(score.a)
    known, far, reward = torch.randn(400, 6), 40 + torch.randn(30, 6), torch.randn(30)
    score.standardise(known, torch.randn(400))
    ungated = score.clamp(known, torch.zeros(400))
    line = torch.linspace(-3, 3, 7)[None]
    free = score.at(ungated, line) + (line - ungated.mean[:, None]).square() / (2 * score.tau.square())
    score.close_gate(known[:300], known[300:])
    closed = score.clamp(far, reward)
    torch.testing.assert_close(score.mode(closed), score.to_standard(reward), rtol=0, atol=1e-4)
    opened = score.gate((known - score.embedding_loc) / score.embedding_scale)
    assert float((opened > 0.5).float().mean()) == pytest.approx(0.8, abs=0.05)
    gated = score.clamp(known, torch.zeros(400))
    torch.testing.assert_close(gated.mean - gated.base_reward, opened * (ungated.mean - ungated.base_reward))
    expected = opened[:, None] * free - (line - gated.mean[:, None]).square() / (2 * score.tau.square())
    torch.testing.assert_close(score.at(gated, line), expected, rtol=1e-4, atol=1e-4)
    nodes = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    score = score.double()
    gated = score.clamp(known[:40].double(), torch.zeros(40, dtype=torch.float64))
    values = score.at(gated, nodes[None])
    spacing = float(nodes[1] - nodes[0])
    torch.testing.assert_close(score.mode(gated), nodes[values.argmax(1)], rtol=0, atol=spacing)
    sums = torch.logsumexp(values, 1) + math.log(spacing)
    torch.testing.assert_close(score.log_normaliser(gated), sums, rtol=0, atol=1e-6)


def test_familiarity_is_the_normalised_density_of_its_gaussian():
    torch.manual_seed(0)
    data = (torch.randn(500, 5) * torch.tensor([3.0, 2, 1, 1, 1])) @ torch.linalg.qr(torch.randn(5, 5)).Q
    familiarity = fit_familiarity(data, torch.randn(100, 5))
    rest = familiarity.rest * torch.eye(5)
    P = familiarity.directions
    covariance = rest + P.T @ ((familiarity.variances - familiarity.rest).diag() @ P)
    normal = torch.distributions.MultivariateNormal(familiarity.mean, covariance)
    torch.testing.assert_close(familiarity.log_density(data[:7]), normal.log_prob(data[:7]), rtol=0, atol=1e-3)


def test_four_in_five_held_out_embeddings_are_familiar():
    torch.manual_seed(0)
    train, held_out, far = torch.randn(600, 30), torch.randn(1000, 30), 3 * torch.randn(200, 30)
    familiarity = fit_familiarity(train, held_out)
    assert float((familiarity(held_out) > 0.5).float().mean()) == pytest.approx(0.8, abs=0.01)
    assert familiarity(far).max() < 0.01
