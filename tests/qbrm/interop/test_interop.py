import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from qbrm.errors import InputError
from qbrm.interop.bqm import from_bqm, to_bqm
from qbrm.interop.ising import Ising, from_units, given_visible, log_weight, to_units
from qbrm.interop.kaiwu_matrix import from_kaiwu_matrix, spins_of, to_kaiwu_matrix
from qbrm.interop.kaiwu_plugin import (
    from_boltzmann_machine,
    from_restricted_boltzmann_machine,
    hidden_ising_matrix,
    to_boltzmann_machine,
    to_restricted_boltzmann_machine,
)
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.kaiwu import as_kaiwu_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

SPINS, VISIBLE = 6, 2


def states(spins=SPINS):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=spins)), dtype=torch.float64)


def problem(seed=0):
    random = torch.Generator().manual_seed(seed)
    couplings = torch.randn(SPINS, SPINS, generator=random, dtype=torch.float64).triu(1)
    return Ising(torch.randn(SPINS, generator=random, dtype=torch.float64), couplings + couplings.mT)


def restricted(seed=0):
    """A problem without couplings inside its two layers."""
    fields, couplings = problem(seed)
    couplings = couplings.clone()
    couplings[:VISIBLE, :VISIBLE] = couplings[VISIBLE:, VISIBLE:] = 0
    return Ising(fields, couplings)


def spelled_out(ising, state):
    pairs = itertools.combinations(range(len(state)), 2)
    total = sum(float(ising.fields[i] * state[i]) for i in range(len(state)))
    return total + sum(float(ising.couplings[i, j] * state[i] * state[j]) for i, j in pairs)


def spread(values):
    return float((values.max() - values.min()).detach())


def assert_equal_problems(found, expected, atol=1e-12):
    torch.testing.assert_close(found.fields, expected.fields, rtol=0, atol=atol)
    torch.testing.assert_close(found.couplings, expected.couplings, rtol=0, atol=atol)


def kaiwu_energy(matrix, rows):
    return torch.from_numpy(-np.einsum("si,ij,sj->s", rows, matrix, rows))


def with_gauge(spins, gauge=1.0):
    return torch.cat([gauge * spins, torch.full((len(spins), 1), gauge, dtype=spins.dtype)], 1).numpy()


@pytest.fixture
def plugin():
    return pytest.importorskip("kaiwu.torch_plugin", reason="kaiwu-torch-plugin is not installed; see docs/kaiwu.md")


@pytest.fixture
def dimod():
    return pytest.importorskip("dimod", reason="dimod needs the extra qbrm[dwave]")


def random_machine(plugin, seed=0):
    torch.manual_seed(seed)
    weights, bias = torch.randn(SPINS, SPINS, dtype=torch.float64), torch.randn(SPINS, dtype=torch.float64)
    return plugin.BoltzmannMachine(SPINS, weights, bias, device=torch.device("cpu"))


def test_log_weight_is_the_sum_over_spins_and_pairs():
    expected = torch.tensor([spelled_out(problem(), state) for state in states()], dtype=torch.float64)
    torch.testing.assert_close(log_weight(problem(), states()), expected)


def test_units_0_and_1_differ_by_a_constant_on_every_state_and_come_back():
    bias, weights = to_units(problem())
    units = (1 + states()) / 2
    in_units = units @ bias + (units @ weights * units).sum(-1) / 2
    assert spread(in_units - log_weight(problem(), states())) < 1e-12
    assert_equal_problems(from_units(bias, weights), problem())


def test_given_visible_spins_the_rest_keeps_its_conditional_probabilities():
    joint = log_weight(problem(), states()).view(2**VISIBLE, -1).log_softmax(-1)
    for row, visible in zip(joint, states(VISIBLE), strict=True):
        conditional = log_weight(given_visible(problem(), visible), states(SPINS - VISIBLE)).log_softmax(-1)
        torch.testing.assert_close(conditional, row)


def test_given_several_visible_states_there_is_one_row_of_fields_for_each():
    batch = given_visible(problem(), states(VISIBLE))
    for fields, visible in zip(batch.fields, states(VISIBLE), strict=True):
        torch.testing.assert_close(fields, given_visible(problem(), visible).fields)


@pytest.mark.parametrize("gauge", [1.0, -1.0])
def test_kaiwu_matrix_has_minus_our_log_weight_as_energy(gauge):
    rows = with_gauge(states(), gauge)
    torch.testing.assert_close(kaiwu_energy(to_kaiwu_matrix(problem()), rows), -log_weight(problem(), states()))
    assert np.array_equal(spins_of(rows), states().numpy())


def test_kaiwus_own_energy_of_our_matrix_is_minus_our_log_weight():
    common = pytest.importorskip("kaiwu.common", reason="kaiwu-community is not installed; see docs/kaiwu.md")
    energy = common.hamiltonian(to_kaiwu_matrix(problem()), with_gauge(states()))
    torch.testing.assert_close(torch.from_numpy(energy), -log_weight(problem(), states()))


def test_kaiwu_matrix_comes_back_whatever_its_diagonal_and_symmetry():
    matrix = to_kaiwu_matrix(problem())
    assert_equal_problems(from_kaiwu_matrix(matrix), problem())
    lopsided = 2 * np.triu(matrix) + np.diag(np.arange(SPINS + 1))
    assert_equal_problems(from_kaiwu_matrix(lopsided), problem())


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\); expected"),
        (np.zeros((1, 1)), "two or more rows"),
        (np.full((3, 3), np.nan), "9 values that are NaN"),
    ],
)
def test_what_is_no_kaiwu_matrix_is_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        from_kaiwu_matrix(matrix)


def test_bqm_has_minus_our_log_weight_as_energy_and_comes_back(dimod):
    model = to_bqm(problem())
    energy = model.energies((states().numpy(), range(SPINS)))
    torch.testing.assert_close(torch.from_numpy(energy), -log_weight(problem(), states()))
    back, variables = from_bqm(model)
    assert variables == list(range(SPINS))
    assert_equal_problems(back, problem())


def test_bqm_keeps_a_spin_that_interacts_with_none(dimod):
    lonely = Ising(torch.zeros(3), torch.zeros(3, 3))
    assert list(to_bqm(lonely).variables) == [0, 1, 2]


def test_binary_bqm_with_names_differs_by_a_constant(dimod):
    model = dimod.BinaryQuadraticModel({"a": 0.3, "b": -1.2, "c": 0.5}, {"ab": 0.7, "ca": -0.4}, 0.1, "BINARY")
    ising, variables = from_bqm(model)
    assert variables == ["a", "b", "c"]
    energy = model.energies(((1 + states(3).numpy()) / 2, variables))
    assert spread(torch.from_numpy(energy) + log_weight(ising, states(3))) < 1e-12
    assert model.vartype is dimod.BINARY


def test_a_boltzmann_machine_has_minus_our_log_weight_and_comes_back(plugin):
    machine = to_boltzmann_machine(problem())
    assert isinstance(machine, plugin.BoltzmannMachine)
    assert spread(machine((1 + states()) / 2) + log_weight(problem(), states())) < 1e-6
    assert_equal_problems(from_boltzmann_machine(machine), problem())


def test_a_boltzmann_machines_problem_has_minus_its_energy_and_a_constant(plugin):
    machine = random_machine(plugin)
    assert spread(machine((1 + states()) / 2) + log_weight(from_boltzmann_machine(machine), states())) < 1e-6


def test_a_restricted_machine_has_minus_our_log_weight_and_comes_back(plugin):
    machine = to_restricted_boltzmann_machine(restricted(), VISIBLE)
    assert isinstance(machine, plugin.RestrictedBoltzmannMachine)
    assert (machine.num_visible, machine.num_hidden) == (VISIBLE, SPINS - VISIBLE)
    assert spread(machine((1 + states()) / 2) + log_weight(restricted(), states())) < 1e-6
    assert_equal_problems(from_restricted_boltzmann_machine(machine), restricted())


def test_restricted_machine_refuses_couplings_within_a_layer():
    ising = restricted()
    ising.couplings[3, 4] = ising.couplings[4, 3] = -0.25
    with pytest.raises(InputError, match=r"within a layer reach 0\.25; expected zeros.* 2 visible units"):
        to_restricted_boltzmann_machine(ising, VISIBLE)


def test_joint_matrix_agrees_with_the_plugins_own(plugin):
    machine, layered = random_machine(plugin), to_restricted_boltzmann_machine(restricted(), VISIBLE)
    ours = to_kaiwu_matrix(from_boltzmann_machine(machine)), to_kaiwu_matrix(restricted())
    np.testing.assert_allclose(ours[0], machine.get_ising_matrix(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours[1], layered.get_ising_matrix(), rtol=0, atol=1e-6)


def test_conditional_matrix_is_exact_where_the_plugins_is_not(plugin):
    machine, hidden = random_machine(plugin), states(SPINS - VISIBLE)
    ours, theirs = [], []
    for visible in (1 + states(VISIBLE)) / 2:
        units = torch.cat([visible.expand(len(hidden), -1), (1 + hidden) / 2], 1)
        energy = machine(units).detach()
        ours.append(spread(kaiwu_energy(hidden_ising_matrix(machine, visible), with_gauge(hidden)) - energy))
        theirs.append(spread(kaiwu_energy(machine._hidden_to_ising_matrix(visible), with_gauge(hidden)) - energy))
    assert max(ours) < 1e-6
    assert min(theirs) > 0.5


def test_plugin_samples_from_its_machine_with_our_sampler(plugin):
    machine = random_machine(plugin)
    sampled = machine.sample(as_kaiwu_optimizer(ExactSampler(), 8000, torch.Generator().manual_seed(0))).double()
    units = (1 + states()) / 2
    probability = (-machine(units).detach()).softmax(-1)
    expected = probability @ units
    error = (expected * (1 - expected) / 8000).sqrt()
    assert float(((sampled.mean(0) - expected) / error).abs().max()) < 5


@pytest.mark.parametrize(("told", "reported"), [(None, False), ("true", True), ("false", False)])
def test_the_plugins_telemetry_is_off_under_us_unless_the_environment_says_otherwise(plugin, told, reported):
    environment = {name: value for name, value in os.environ.items() if name != "KPP_STATS_ENABLED"}
    environment |= {} if told is None else {"KPP_STATS_ENABLED": told}
    asks = (
        "import qbrm.samplers.kaiwu; from kaiwu.torch_plugin import usage_stats as s; print(s.is_usage_stats_enabled())"
    )
    ended = subprocess.run([sys.executable, "-c", asks], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == str(reported)
