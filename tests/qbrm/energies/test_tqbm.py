"""Coupled qubits in a transverse field: against explicit matrix exponentials, and the limits that have closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.coupled_machines import DIM, examples, simulated_pairs
from fixtures.pauli import exponent
from fixtures.scores import randomise
from qbrm.data.pairs import Batch
from qbrm.energies import ENERGY_SCORES, CoupledBoltzmannMachine, SemiQuantumRBM, TransverseFieldMachine
from qbrm.energies.density import density
from qbrm.energies.hidden_ising import hidden_ising, load_hidden_ising
from qbrm.energies.transverse_field import diagonalise, log_partition, response
from qbrm.errors import InputError, TrainingError
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.fitting.trainer import validation_loss
from qbrm.samplers.gibbs import GibbsSampler

pytestmark = pytest.mark.usefixtures("one_thread")
unhurried = settings(deadline=None, max_examples=25)


def machine(hidden=4, seed=0, size=0.6, **options):
    score = TransverseFieldMachine(DIM, hidden=hidden, **options)
    randomise(score, seed, size)
    return score.double().eval()


def doubles(rows=7, seed=1):
    return tuple(part.double() for part in examples(rows, seed))


def log_trace(fields, couplings, transverse):
    return torch.matrix_exp(exponent(fields, couplings, transverse)).trace().log()


def problem(qubits=4, batch=3, seed=0, strength=0.5):
    generator = torch.Generator().manual_seed(seed)
    fields, upper, transverse = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, qubits), (qubits, qubits), (qubits,))
    )
    upper = strength * upper.triu(1)
    return fields, upper + upper.T, transverse


# Degenerate levels: fields, transverse fields and couplings that vanish or are all the same.
DEGENERATE = {
    "nothing": (0.0, 0.0, 0.0),
    "equal fields": (0.7, 0.0, 0.0),
    "equal transverse fields": (0.0, 0.0, 0.8),
    "equal couplings": (0.0, 0.5, 0.0),
    "all equal": (0.7, 0.5, 0.8),
}


def equal_problem(case, qubits=3):
    field, coupling, transverse = DEGENERATE[case]
    ones = torch.ones(qubits, qubits, dtype=torch.float64)
    return field * ones[:1], coupling * (ones - torch.eye(qubits)), transverse * ones[0]


PROBLEMS = {"random": problem(), **{case: equal_problem(case) for case in DEGENERATE}}


@torch.no_grad()
def test_f_is_the_log_trace_of_the_explicit_gibbs_state():
    score = machine()
    embedding, base_reward = doubles()
    _, reward = doubles(seed=2)
    W, c, u = (parameter[0] for parameter in (score.W, score.c, score.u))
    mu = base_reward + embedding @ score.a + score.a0
    fields = embedding @ W.T + c + reward[:, None] * u
    hidden = torch.stack([log_trace(field, score.couplings, score.transverse) for field in fields]) - 4 * math.log(2)
    gaussian = (reward - mu).square() / (2 * score.log_tau.exp().square())
    expected = hidden - gaussian - score.confinement * reward.square() / 2
    torch.testing.assert_close(score(embedding, base_reward, reward), expected, rtol=0, atol=1e-10)
    single = score.float()(embedding.float(), base_reward.float(), reward.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


def moved(parts, part, place, step):
    parts = [value.clone() for value in parts]
    parts[part][place] += step
    if part == 1:
        parts[part][place[::-1]] += step
    return parts


@pytest.mark.parametrize("case", PROBLEMS)
def test_gradients_are_those_of_finite_differences(case):
    parts = PROBLEMS[case]
    qubits = parts[0].shape[1]
    variables = [part.clone().requires_grad_() for part in parts]
    log_partition(*variables).sum().backward()
    pairs = [(j, k) for j in range(qubits) for k in range(j)]
    places = [(0, [(0, j) for j in range(qubits)]), (1, pairs), (2, [(j,) for j in range(qubits)])]
    for part, place in ((part, place) for part, several in places for place in several):
        sides = [moved(parts, part, place, step) for step in (1e-5, -1e-5)]
        up, down = (sum(log_trace(field, *rest) for field in fields) for fields, *rest in sides)
        # A coupling stands at two places, each with half of the gradient.
        expected = (up - down) / 2e-5 / (2 if part == 1 else 1)
        assert float(variables[part].grad[place]) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("case", PROBLEMS)
def test_derivatives_along_a_direction_are_those_of_finite_differences(case):
    fields, couplings, transverse = PROBLEMS[case]
    direction = torch.randn(fields.shape[1], generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    got = response(fields, couplings, transverse, direction)
    step = 1e-3
    values = [
        torch.stack([log_trace(field + k * step * direction, couplings, transverse) for field in fields])
        for k in range(-2, 3)
    ]
    first = (8 * (values[3] - values[1]) - (values[4] - values[0])) / (12 * step)
    second = (16 * (values[3] + values[1]) - (values[4] + values[0]) - 30 * values[2]) / (12 * step**2)
    torch.testing.assert_close(got.first, first, rtol=0, atol=1e-9)
    torch.testing.assert_close(got.second, second, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-3])
def test_nearly_degenerate_levels_lose_no_precision_in_single_precision(size):
    fields, couplings, transverse = (size * part for part in problem(qubits=5))
    direction = torch.ones(5, dtype=torch.float64)
    exact = response(fields, couplings, transverse, direction)
    single = response(*(part.float() for part in (fields, couplings, transverse, direction)))
    torch.testing.assert_close(single.second.double(), exact.second, rtol=1e-5, atol=1e-5)
    assert exact.second.tolist() == pytest.approx([5.0] * 3, rel=1e-2)


@torch.no_grad()
def test_without_a_transverse_field_it_is_the_coupled_machine():
    score = machine()
    score.transverse.zero_()
    classical = CoupledBoltzmannMachine(DIM, hidden=4).double()
    state = {name: value for name, value in score.state_dict().items() if name != "transverse"}
    classical.load_state_dict(state)
    embedding, base_reward = doubles()
    _, reward = doubles(seed=2)
    # They confine the reward differently: by kappa here, by |u|^2 there.
    confined = (score.confinement - score.u.square().sum()) * reward.square() / 2
    got = score(embedding, base_reward, reward) + confined
    torch.testing.assert_close(got, classical(embedding, base_reward, reward), rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_without_couplings_it_is_the_semi_quantum_machine(training):
    score = machine()
    semi = SemiQuantumRBM(DIM, hidden=4, axes=2).double()
    with torch.no_grad():
        score.upper_couplings.zero_()
        for name in ("a", "a0", "log_tau"):
            getattr(semi, name).copy_(getattr(score, name))
        for name in ("W", "c", "u"):
            getattr(semi, name).zero_()[0] = getattr(score, name)[0]
        semi.c[1] = score.transverse
    inputs = *doubles(), doubles(seed=2)[1]
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(score(*inputs), semi(*inputs), rtol=0, atol=1e-5)
    clamped = [one.clamp(*inputs[:2]) for one in (score, semi)]
    torch.testing.assert_close(score.mode(clamped[0]), semi.mode(clamped[1]), rtol=0, atol=1e-5)
    if not training:
        found, expected = density(score, clamped[0]), density(semi, clamped[1])
        torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-5)


@unhurried
@given(
    seed=st.integers(0, 10_000), strength=st.floats(0, 3), transverse=st.floats(0, 3), field=st.floats(0, 5),
    qubits=st.integers(1, 5),
)  # fmt: skip
def test_no_hamiltonian_bends_more_than_kappa(seed, strength, transverse, field, qubits):
    score = TransverseFieldMachine(DIM, hidden=qubits)
    randomise(score, seed, 1.0)
    score = score.double()
    with torch.no_grad():
        score.upper_couplings.mul_(strength / qubits)
    fields = field * torch.randn(20, qubits, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    second = response(fields, score.couplings, transverse * score.transverse, score.u[0]).second
    assert (second >= 0).all()
    assert (second <= score.confinement * (1 + 1e-9)).all()


@torch.no_grad()
@pytest.mark.parametrize(("strength", "aligned"), [(0.0, False), (0.05, False), (3.0, True)])
def test_kappa_is_the_smaller_bound_of_the_two(strength, aligned):
    score = machine(hidden=5)
    score.upper_couplings.normal_(std=1.0, generator=torch.Generator().manual_seed(0)).mul_(strength)
    squares, square = score.u.square().sum(), score.u.abs().sum().square()
    assert squares <= score.confinement <= square
    assert (score.confinement == square) == aligned
    if not strength:
        torch.testing.assert_close(score.confinement, squares)


@torch.no_grad()
def test_kappa_cannot_be_smaller_for_qubits_that_a_coupling_aligns():
    score = machine(hidden=3)
    signs = score.u[0].sign()
    rows, columns = torch.triu_indices(3, 3, 1)
    score.upper_couplings.copy_(20 * signs[rows] * signs[columns])
    score.transverse.mul_(0.1)
    second = response(torch.zeros(1, 3).double(), score.couplings, score.transverse, score.u[0]).second
    assert float(second) == pytest.approx(float(score.confinement), rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("log_tau", [-2.0, 0.0, 2.0])
def test_newtons_mode_is_where_a_fine_grid_finds_f_greatest(log_tau):
    score = machine(hidden=3)
    score.log_tau.fill_(log_tau)
    clamped = score.clamp(*doubles())
    low, high = score.bracket(clamped)
    mode = score.mode(clamped)
    for _ in range(3):
        grid = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, 101, dtype=torch.float64)
        best = score.at(clamped, grid).argmax(1, keepdim=True)
        low, high = (grid.gather(1, (best + side).clamp(0, 100))[:, 0] for side in (-1, 1))
    torch.testing.assert_close(mode, (low + high) / 2, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absurd_embeddings_and_rewards_have_a_mode_between_its_bounds(dtype):
    score = machine().to(dtype)
    size = torch.tensor([0.0, 1e-20, 1.0, 1e3, 1e6, 1e9], dtype=dtype)
    clamped = score.clamp(torch.ones(6, DIM, dtype=dtype) * size[:, None], -size)
    mode, (low, high) = score.mode(clamped), score.bracket(clamped)
    slack = 1e-3 * (1 + mode.abs())
    assert ((mode >= low - slack) & (mode <= high + slack)).all()


@torch.no_grad()
def test_density_is_that_of_quadrature():
    score = machine()
    clamped = score.clamp(*doubles())
    grid = torch.linspace(-25, 25, 4001, dtype=torch.float64)
    mass = torch.softmax(score.at(clamped, grid[None]), 1)
    mean = mass @ grid
    found = density(score, clamped)
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.std, (mass @ grid.square() - mean.square()).sqrt(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_of_a_batch_are_put_together_in_order(threads, monkeypatch):
    fields, couplings, transverse = problem(batch=9)
    expected = [float(log_trace(field, couplings, transverse)) for field in fields]
    monkeypatch.setattr("qbrm.energies.transverse_field.CHUNK", 2 * 4**4)
    monkeypatch.setattr("qbrm.energies.transverse_field.WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert log_partition(fields, couplings, transverse).tolist() == pytest.approx(expected, abs=1e-10)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def test_the_path_integral_of_eight_qubits_has_the_exact_mean_within_its_error():
    torch.manual_seed(0)
    score = TransverseFieldMachine(DIM, hidden=8, slices=6)
    for parameter, size in ((score.W, 0.4), (score.c, 0.4), (score.a, 0.4), (score.upper_couplings, 0.1)):
        torch.nn.init.normal_(parameter, std=size)
    score.transverse.uniform_(0.6, 1.2)
    clamped = score.clamp(*examples(rows=8))
    exact = density(score, clamped).mean
    score.sampler, score.samples = GibbsSampler(sweeps=100, chains=1000), 1000
    off = (density(score, clamped).mean - exact).square().mean().sqrt()
    # Six slices leave a Trotter error of less than 0.002.
    bound = 2 * score.monte_carlo(clamped).error + 0.002
    assert off < bound
    score.sampler = None
    score.transverse.zero_()
    assert (density(score, clamped).mean - exact).square().mean().sqrt() > 1.5 * bound  # not the classical machine's


def test_sampled_gradients_are_those_of_the_exact_objective():
    torch.manual_seed(0)
    score = TransverseFieldMachine(DIM, hidden=3, slices=6)
    for parameter in (score.W, score.c, score.a, score.upper_couplings):
        torch.nn.init.normal_(parameter, std=0.4)
    embedding, base_reward = examples(rows=16)
    batch = Batch(embedding[:8], base_reward[:8], embedding[8:], base_reward[8:])
    gradients = []
    for sampler in (None, GibbsSampler(sweeps=100, chains=4000)):
        score.sampler, score.samples = sampler, 4000
        score.zero_grad()
        PreferenceLikelihood()(score, batch, torch.Generator().manual_seed(3)).backward()
        gradients.append({name: value.grad.clone() for name, value in score.named_parameters()})
    for name, exact in gradients[0].items():
        assert (gradients[1][name] - exact).norm() < 0.2 * exact.norm() + 1e-2, name


def test_training_moves_every_parameter_and_lowers_the_loss():
    torch.manual_seed(5)
    score = TransverseFieldMachine(DIM, hidden=3)
    before = {name: value.clone() for name, value in score.state_dict().items()}
    validation = simulated_pairs(100, seed=21)
    untrained = validation_loss(score, PreferenceLikelihood(), validation, 0)
    score.scatter()
    settings = TrainingSettings(epochs=2, batch_pairs=64, learning_rate=0.03)
    train(score, PreferenceLikelihood(), simulated_pairs(400, seed=20), validation, settings, 0)
    assert validation_loss(score, PreferenceLikelihood(), validation, 0) < untrained - 0.02
    for name in ("W", "c", "u", "a", "log_tau", "upper_couplings", "transverse"):
        assert not torch.equal(score.state_dict()[name], before[name]), name


@torch.no_grad()
def test_a_gated_score_is_rebuilt_by_its_settings_and_state():
    score = machine(anchored=False, coupling=0.5, slices=5)
    embedding, base_reward = doubles(40)
    score.close_gate(embedding[:30], embedding[30:])
    twin = ENERGY_SCORES["tqbm"](**score.settings()).double().eval()
    twin.load_state_dict(score.state_dict())
    assert torch.equal(twin(embedding, base_reward, base_reward), score(embedding, base_reward, base_reward))
    far = score.clamp(100 + embedding, base_reward)
    assert far.field.abs().max() < 1e-6


def test_ten_qubits_are_diagonalised_and_eleven_refused():
    fields, couplings, transverse = problem(qubits=10, batch=1, strength=0.0)
    expected = (2 * (fields.square() + transverse.square()).sqrt().cosh()).log().sum(1)
    torch.testing.assert_close(diagonalise(fields, couplings, transverse).log_partition, expected, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match=r"^exact diagonalisation of 11 qubits; expected 10 or fewer"):
        TransverseFieldMachine(DIM, hidden=11)(*examples(), torch.zeros(7))


@pytest.mark.parametrize("hidden", [9, 12])
def test_too_many_qubits_to_train_are_one_line(hidden):
    with pytest.raises(InputError, match=rf"^{hidden} hidden qubits to train .* 8 or fewer, or a sampler") as refused:
        TransverseFieldMachine(DIM, hidden=hidden).scatter()
    assert "\n" not in str(refused.value)
    TransverseFieldMachine(DIM, hidden=hidden, sampler="gibbs").scatter()


@pytest.mark.parametrize("name", ["upper_couplings", "transverse", "W"])
def test_couplings_that_overflow_are_a_training_error_of_one_line(name):
    score = TransverseFieldMachine(DIM, hidden=3)
    with torch.no_grad():
        getattr(score, name).fill_(math.inf)
    pairs = simulated_pairs(20, seed=1)
    with pytest.raises(TrainingError, match="not finite") as refused:
        train(score, PreferenceLikelihood(), pairs, pairs, TrainingSettings(epochs=1), 0)
    assert "\n" not in str(refused.value)


def test_fewer_than_three_slices_are_refused():
    with pytest.raises(ValueError, match="path integral of 2 slices; expected at least 3"):
        TransverseFieldMachine(DIM, slices=2)


def test_qubits_have_no_single_ising_problem_to_take_back():
    score = TransverseFieldMachine(DIM, hidden=3, slices=4)
    embedding = torch.zeros(DIM)
    problem = hidden_ising(score, embedding, 0.0)
    assert len(problem.fields) == 12
    with pytest.raises(InputError, match="path integral over 12 spins"):
        load_hidden_ising(score, problem._replace(fields=problem.fields[:3], couplings=problem.couplings[:3, :3]),
                          embedding, 0.0)  # fmt: skip
