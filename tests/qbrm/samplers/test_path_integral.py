"""The transverse field: exact diagonalisation, and the path integral that is tested against it."""

import math

import pytest
import torch

from fixtures.pauli import X, Z, along, exponent
from qbrm.energies.transverse_field import diagonalise
from qbrm.errors import InputError
from qbrm.samplers.gibbs import GibbsSampler
from qbrm.samplers.path_integral import PathIntegralSampler

# Independent chains: the Monte-Carlo error of a mean of spins is 0.016 at most.
CHAINS = 4_000


def problem(qubits, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(batch, qubits, generator=generator)
    upper = 0.4 * torch.randn(qubits, qubits, generator=generator).triu(1)
    return fields, upper + upper.T, 0.5 + torch.rand(qubits, generator=generator)


def test_diagonalisation_gives_the_moments_of_the_explicit_gibbs_state():
    fields, couplings, transverse = problem(4)
    got = diagonalise(fields, couplings, transverse)
    for row in range(len(fields)):
        state = torch.matrix_exp(exponent(fields[row].double(), couplings.double(), transverse.double()))
        z, x = along(Z, len(couplings)), along(X, len(couplings))
        assert float(got.log_partition[row]) == pytest.approx(math.log(state.trace()), abs=1e-9)
        for moments, operators in ((got.along_z, z), (got.along_x, x)):
            expected = [float((state @ operator).trace() / state.trace()) for operator in operators]
            assert moments[row].tolist() == pytest.approx(expected, abs=1e-9)


def test_without_couplings_the_free_energy_is_that_of_single_qubits():
    fields, couplings, transverse = problem(5)
    lengths = (fields.double().square() + transverse.double().square()).sqrt()
    expected = (lengths.cosh().log() + math.log(2)).sum(1)
    got = diagonalise(fields, torch.zeros_like(couplings), transverse).log_partition
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_magnetisation_is_the_gradient_of_the_free_energy():
    fields, couplings, transverse = problem(4)
    step = 1e-4
    for qubit in range(4):
        shift = step * torch.eye(4, dtype=torch.float64)[qubit]
        up, down = (diagonalise(fields.double() + sign * shift, couplings.double(), transverse) for sign in (1, -1))
        slope = (up.log_partition - down.log_partition) / (2 * step)
        torch.testing.assert_close(
            diagonalise(fields, couplings, transverse).along_z[:, qubit], slope, rtol=0, atol=1e-6
        )


def trotter_moments(fields, couplings, transverse, slices):
    """Magnetisations of the sliced classical problem, without Monte-Carlo error: transfer matrices of the slices."""
    qubits = len(fields)
    z, x = along(Z, qubits), along(X, qubits)
    classical = sum(fields[j] * z[j] for j in range(qubits))
    classical = classical + sum(couplings[j, k] * z[j] @ z[k] for j in range(qubits) for k in range(j))
    quantum = sum(transverse[j] * x[j] for j in range(qubits))
    once = torch.matrix_exp(classical / slices) @ torch.matrix_exp(quantum / slices)
    state = torch.linalg.matrix_power(once, slices)
    return torch.stack([(state @ operator).trace() / state.trace() for operator in z])


@pytest.mark.parametrize("slices", [4, 16])
def test_path_integral_has_the_magnetisations_of_trotters_formula(slices):
    fields, couplings, transverse = problem(4)
    sampler = PathIntegralSampler(GibbsSampler(sweeps=1500, chains=CHAINS), transverse, slices)
    spins = sampler.sample(fields, couplings, CHAINS, torch.Generator().manual_seed(1))
    for row in range(len(fields)):
        expected = trotter_moments(fields[row].double(), couplings.double(), transverse.double(), slices)
        error = (1 - expected.square()).sqrt() / math.sqrt(CHAINS)
        assert ((spins[row].double().mean(0) - expected).abs() < 5 * error).all()


def test_trotter_error_falls_as_the_square_of_the_number_of_slices():
    fields, couplings, transverse = (part.double() for part in problem(4))
    exact = diagonalise(fields, couplings, transverse).along_z[0]
    errors = [(trotter_moments(fields[0], couplings, transverse, slices) - exact).abs().max() for slices in (8, 16, 32)]
    assert float(errors[0] / errors[1]) == pytest.approx(4, rel=0.1)
    assert float(errors[1] / errors[2]) == pytest.approx(4, rel=0.1)


def test_path_integral_agrees_with_diagonalisation_within_its_errors():
    fields, couplings, transverse = problem(5, seed=3)
    exact = diagonalise(fields, couplings, transverse)
    sampler = PathIntegralSampler(GibbsSampler(sweeps=1500, chains=CHAINS), transverse, slices=16)
    lines = sampler.world_lines(fields, couplings, CHAINS, torch.Generator().manual_seed(2))
    assert (lines.mean((1, 2)) - exact.along_z).abs().max() < 0.01 + 5 / math.sqrt(CHAINS)
    # What along_x averages is a tie or its inverse: its own spread gives its error.
    tie = torch.tanh(transverse / 16)
    aligned = lines * lines.roll(1, dims=2) > 0
    error = torch.where(aligned, tie, 1 / tie).mean(2).std(1) / math.sqrt(CHAINS)
    assert ((sampler.along_x(lines) - exact.along_x).abs() < 0.01 + 5 * error).all()


def test_at_zero_field_the_path_integral_is_the_classical_sampler():
    fields, couplings, _ = problem(4)
    quantum = PathIntegralSampler(GibbsSampler(), torch.zeros(4))
    same = [s.sample(fields, couplings, 8, torch.Generator().manual_seed(5)) for s in (quantum, GibbsSampler())]
    assert torch.equal(*same)


@pytest.mark.parametrize(
    ("transverse", "slices", "expected"),
    [
        (torch.tensor([1.0, -1.0]), 8, "zero or more"),
        (torch.tensor([1.0, 0.0]), 8, "all zero or all positive"),
        (torch.tensor([1.0, math.nan]), 8, "finite"),
        (torch.ones(2), 2, "at least 3"),
    ],
)
def test_a_transverse_field_that_cannot_be_sliced_is_refused(transverse, slices, expected):
    with pytest.raises(InputError, match=expected):
        PathIntegralSampler(GibbsSampler(), transverse, slices)


def test_too_many_qubits_to_diagonalise_name_limit_and_alternative():
    with pytest.raises(InputError, match="10 or fewer, or a sampler for their path integral"):
        diagonalise(torch.zeros(1, 11), torch.zeros(11, 11), torch.ones(11))


@pytest.mark.parametrize(
    ("transverse", "expected"),
    [
        (torch.ones(2), r"shape \(2,\); expected \(3,\)"),
        (torch.tensor(1.0), r"shape \(\); expected \(3,\)"),
        (torch.ones(1, 3), r"shape \(1, 3\); expected \(3,\)"),
        (torch.tensor([1.0, math.inf, 1.0]), r"\[1\.0, inf, 1\.0\]; expected finite"),
        (torch.tensor([1.0, math.nan, 1.0]), "nan.*expected finite"),
    ],
)
def test_a_transverse_field_that_cannot_be_diagonalised_is_one_line(transverse, expected):
    with pytest.raises(InputError, match=expected) as refusal:
        diagonalise(torch.zeros(1, 3), torch.zeros(3, 3), transverse)
    assert "\n" not in str(refusal.value)
