import io
import itertools
import sys
import types

import numpy as np
import pytest
import torch

from qbrm.errors import InputError
from qbrm.interop import attempts
from qbrm.interop.kaiwu_sdk import kaiwu_optimizer
from qbrm.samplers import SAMPLERS
from qbrm.samplers.base import Sampler
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.kaiwu import KaiwuSampler, as_kaiwu_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

SPINS = 5
STATES = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=SPINS)), dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problems(batch=2, size=0.5, seed=1):
    random = generator(seed)
    fields = size * torch.randn(batch, SPINS, generator=random, dtype=torch.float64)
    couplings = size * torch.randn(batch, SPINS, SPINS, generator=random, dtype=torch.float64).triu(1)
    return fields, couplings + couplings.mT


def log_weights(fields, couplings):
    return torch.stack([(STATES * (h + STATES @ j / 2)).sum(-1) for h, j in zip(fields, couplings, strict=True)])


def standard_errors_from_exact(samples, fields, couplings):
    """The greatest distance of a first or second moment from the exact one, in errors of independent samples."""
    pairs = torch.triu_indices(SPINS, SPINS, 1)
    everything = [torch.cat([s, s[..., pairs[0]] * s[..., pairs[1]]], -1) for s in (samples, STATES)]
    exact = log_weights(fields, couplings).softmax(-1) @ everything[1]
    error = ((1 - exact.square()) / samples.shape[1]).sqrt()
    return float(((everything[0].mean(1) - exact) / error).abs().max())


def boltzmann_rows(matrix, beta, count, random):
    """Rows x over all spins, gauge included, with p(x) ~ exp(beta x^T K x): Kaiwu's energy, by enumeration."""
    rows = np.array(list(itertools.product([-1, 1], repeat=len(matrix))), np.int8)
    log_weight = beta * np.einsum("si,ij,sj->s", rows, matrix, rows)
    weight = np.exp(log_weight - log_weight.max())
    return rows[random.choice(len(rows), count, p=weight / weight.sum())]


class Machine:
    """A perfect machine at its own temperature; keeps the matrices that it was given."""

    def __init__(self, beta=1.0, count=4000, seed=0):
        self.beta, self.count, self.random = beta, count, np.random.default_rng(seed)
        self.matrices = []

    def solve(self, ising_matrix):
        self.matrices.append(ising_matrix)
        return boltzmann_rows(ising_matrix, self.beta, self.count, self.random)


class Interrupted(Machine):
    """Fails as often as it is told to, then works."""

    def __init__(self, failures, error, **settings):
        super().__init__(**settings)
        self.failures, self.error = failures, error

    def solve(self, ising_matrix):
        self.failures -= 1
        if self.failures < 0:
            return super().solve(ising_matrix)
        if self.error is None:
            return None
        raise self.error


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(attempts.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("beta", [1.0, 0.2, 6.0])
def test_a_machine_of_known_temperature_gives_exact_moments(beta):
    fields, couplings = problems()
    sampler = KaiwuSampler(Machine(beta), beta=beta)
    samples = sampler.sample(fields, couplings, 4000, generator())
    assert isinstance(sampler, Sampler)
    assert standard_errors_from_exact(samples, fields, couplings) < 5
    assert sampler.effective_beta == pytest.approx(1, abs=0.05)
    assert sampler.distortion == 0


@pytest.mark.parametrize("beta", [0.05, 9.0])
def test_machine_of_unknown_temperature_is_brought_to_one(beta):
    fields, couplings = problems()
    sampler = KaiwuSampler(Machine(beta))
    samples = sampler.sample(fields, couplings, 4000, generator())
    assert standard_errors_from_exact(samples, fields, couplings) < 6
    assert sampler.effective_beta == pytest.approx(1, abs=0.05)


def test_optimizer_derived_from_kaiwus_own_solver_gives_exact_moments():
    core = pytest.importorskip("kaiwu.core", reason="the package kaiwu-community is not installed; see docs/kaiwu.md")

    class Optimizer(core.IsingSolver):
        random = np.random.default_rng(0)

        def _solve(self, ising_matrix):
            return boltzmann_rows(ising_matrix, 1.0, 4000, self.random)

    fields, couplings = problems()
    samples = KaiwuSampler(Optimizer(), beta=1).sample(fields, couplings, 4000, generator())
    assert standard_errors_from_exact(samples, fields, couplings) < 5


def test_bits_give_integers_with_the_distortion_that_enumeration_finds():
    fields, couplings = problems()
    machine = Machine(beta=0.02)
    sampler = KaiwuSampler(machine, beta=0.02, bits=8)
    sampler.sample(fields, couplings, 100, generator())
    worst = 0.0
    for matrix, log_weight in zip(machine.matrices, log_weights(fields, couplings), strict=True):
        assert np.issubdtype(matrix.dtype, np.integer)
        assert np.array_equal(matrix, matrix.T)
        assert np.abs(matrix).max() <= 127
        rows = np.concatenate([STATES.numpy(), np.ones((len(STATES), 1))], 1)
        change = 0.02 * np.einsum("si,ij,sj->s", rows, matrix, rows) - log_weight.numpy()
        worst = max(worst, np.sqrt((change**2).mean()))
    assert sampler.distortion == pytest.approx(worst, rel=1e-9)
    assert 0 < sampler.distortion < 0.1


def test_eight_bits_at_an_unknown_temperature_are_brought_to_one():
    fields, couplings = problems()
    machine = Machine(beta=0.02)
    sampler = KaiwuSampler(machine, bits=8)
    samples = sampler.sample(fields, couplings, 4000, generator())
    assert max(np.abs(matrix).max() for matrix in machine.matrices[: len(fields)]) == 127
    assert standard_errors_from_exact(samples, fields, couplings) < 8
    assert sampler.effective_beta == pytest.approx(1, abs=0.05)


def largest(matrices):
    return max(np.abs(matrix).max() for matrix in matrices)


def test_a_saved_temperature_takes_the_place_of_filling_the_range_of_bits():
    fields, couplings = problems()
    found, machine = Machine(beta=0.02), Machine(beta=0.02)
    first, resumed = KaiwuSampler(found, bits=8), KaiwuSampler(machine, bits=8)
    assert first.state_dict() == {}
    first.sample(fields, couplings, 4000, generator())
    resumed.load_state_dict(first.state_dict())
    resumed.sample(fields, couplings, 4000, generator())
    assert largest(machine.matrices[:2]) == largest(found.matrices[-2:]) < 127
    machine.matrices.clear()
    resumed.load_state_dict({})
    resumed.sample(fields, couplings, 4000, generator())
    assert largest(machine.matrices[:2]) == 127


def test_a_colder_machine_leaves_fewer_levels_and_distorts_more():
    fields, couplings = problems()
    samplers = [KaiwuSampler(Machine(beta), beta=beta, bits=8) for beta in (0.01, 0.1, 1.0)]
    for sampler in samplers:
        sampler.sample(fields, couplings, 100, generator())
    hot, warm, cold = (sampler.distortion for sampler in samplers)
    assert 5 * hot < warm < cold / 2


def test_a_problem_beyond_the_range_is_scaled_back_and_told_to_be_too_hot():
    fields, couplings = problems()
    machine = Machine(beta=0.001)
    sampler = KaiwuSampler(machine, beta=0.001, bits=8)
    sampler.sample(fields, couplings, 4000, generator())
    assert all(np.abs(matrix).max() == 127 for matrix in machine.matrices)
    assert sampler.effective_beta < 0.5


def test_solving_goes_on_until_there_are_enough_solutions():
    fields, couplings = problems()
    machine = Machine(count=300)
    samples = KaiwuSampler(machine, beta=1).sample(fields, couplings, 1000, generator())
    assert samples.shape == (2, 1000, SPINS)
    assert len(machine.matrices) == 8


def test_too_few_solutions_are_an_error_that_says_what_to_raise():
    with pytest.raises(InputError, match="returned 6 solutions in 2 solves; expected 100: raise its size_limit"):
        KaiwuSampler(Machine(count=3), beta=1, solves=2).sample(*problems(), 100, generator())


class ReadTimeout(type("TimeoutException", (Exception,), {})):
    """Named and derived as httpx does."""


@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionResetError("gone"), ReadTimeout("slow"), None])
def test_time_outs_are_tried_again_with_longer_and_longer_pauses(error, pauses):
    fields, couplings = problems(batch=1)
    machine = Interrupted(3, error)
    samples = KaiwuSampler(machine, beta=1, pause=2).sample(fields, couplings, 4000, generator())
    assert pauses == [2, 4, 8]
    assert standard_errors_from_exact(samples, fields, couplings) < 5


def test_a_machine_that_stays_away_is_one_line_and_changes_nothing(pauses):
    fields, couplings = problems(batch=1)
    machine, random = Interrupted(3, TimeoutError("late")), generator()
    sampler = KaiwuSampler(machine, beta=1, attempts=3)
    with pytest.raises(
        InputError, match=r"Interrupted gave no solution in 3 attempts \(TimeoutError: late\)"
    ) as failure:
        sampler.sample(fields, couplings, 50, random)
    assert "\n" not in str(failure.value)
    assert pauses == [5, 10]
    unharmed = KaiwuSampler(Machine(), beta=1).sample(fields, couplings, 50, generator())
    assert torch.equal(sampler.sample(fields, couplings, 50, random), unharmed)


def test_other_errors_of_a_machine_are_not_tried_again(pauses):
    machine = Interrupted(1, ValueError("The save directory\nis required"))
    with pytest.raises(InputError, match=r"Interrupted failed \(ValueError: The save directory is required\)"):
        KaiwuSampler(machine, beta=1).sample(*problems(), 50, generator())
    assert not pauses


class Unlicensed:
    """Asks as the SDK does, which wraps the end of the input in a ValueError."""

    def solve(self, ising_matrix):
        print("solving")
        try:
            return input("Please enter user ID: ")
        except EOFError as error:
            raise ValueError(error) from error


def test_a_missing_licence_is_one_line_and_no_question(monkeypatch, capsys):
    keyboard = io.StringIO("somebody\n")
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(InputError, match=r"no valid licence; expected one from kaiwu\.license\.init"):
        KaiwuSampler(Unlicensed(), beta=1).sample(*problems(), 10, generator())
    assert capsys.readouterr() == ("", "")
    assert sys.stdin is keyboard
    assert keyboard.read() == "somebody\n"


def test_what_a_solver_prints_is_shown_once_it_has_succeeded(capsys):
    class Talkative(Machine):
        def solve(self, ising_matrix):
            print("cooling")
            return super().solve(ising_matrix)

    KaiwuSampler(Talkative(), beta=1).sample(*problems(batch=1), 10, generator())
    assert capsys.readouterr().out == "cooling\n"


def test_a_missing_sdk_is_one_line():
    with pytest.raises(InputError, match=r"no kaiwu\.absent\.Optimizer in this Python; expected Python 3\.10"):
        kaiwu_optimizer("absent.Optimizer")


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def solve(self, ising_matrix):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.ones((10, SPINS)), r"Answers returned shape \(10, 5\); expected \(solutions, 6\)"),
        (np.ones(6), r"returned shape \(6,\)"),
        (np.full((10, SPINS + 1), 2), "returned 4 as a spin; expected -1 or"),
    ],
)
def test_answers_that_are_no_solutions_are_named(answer, message):
    with pytest.raises(InputError, match=message):
        KaiwuSampler(Answers(answer), beta=1).sample(*problems(), 10, generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 1}, "bits is 1; expected 2"),
        ({"attempts": 0}, "attempts is 0"),
        ({"pause": -1.0}, "pause is -1"),
        ({"beta": 0.0}, "beta is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        KaiwuSampler(Machine(), **settings)


def test_our_sampler_behind_kaiwus_interface_draws_the_same_distribution():
    fields, couplings = problems()
    optimizer = as_kaiwu_optimizer(ExactSampler(), 4000, generator())
    samples = KaiwuSampler(optimizer, beta=1).sample(fields, couplings, 4000, generator(1))
    assert standard_errors_from_exact(samples, fields, couplings) < 5


def test_the_machine_by_name_is_kaiwus_with_eight_bits(monkeypatch):
    made = {}

    class Machine:
        def __init__(self, **options):
            made.update(options)

        def solve(self, ising_matrix):
            made["largest"] = int(np.abs(ising_matrix).max())
            return as_kaiwu_optimizer(ExactSampler(), 4096, generator(), beta=1 / 400).solve(ising_matrix)

    monkeypatch.setitem(sys.modules, "kaiwu.cim", types.SimpleNamespace(CIMOptimizer=Machine))
    sampler = SAMPLERS["kaiwu"]()
    fields = torch.tensor([[0.3, -0.2, 0.5]])
    states = sampler.sample(fields, torch.zeros(3, 3), 4096, generator(1))
    assert states.shape == (1, 4096, 3)
    assert made["task_mode"] == "sampling"
    assert 64 <= made["largest"] <= 127


def test_without_the_sdk_the_machine_by_name_is_one_line():
    with pytest.raises(InputError, match=r"Kaiwu SDK: no kaiwu\.cim\.CIMOptimizer in this Python"):
        SAMPLERS["kaiwu"]()


def test_a_hot_machine_of_eight_bits_gives_exact_moments():
    fields, couplings = problems(6)
    sampler = SAMPLERS["kaiwu-gibbs"]()
    states = sampler.sample(fields, couplings, 1000, generator())
    mean, _ = ExactSampler().moments(fields, couplings)
    error = ((1 - mean.square()) / 500).sqrt() + sampler.distortion / 4
    assert sampler.distortion < 0.2
    assert ((states.mean(1) - mean).abs() < 5 * error).all()
