"""A trained coupled machine in the words of other packages, one example at a time, and back."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch

from fixtures.coupled_machines import DIM, examples, joint_energy, machine, simulated_pairs, states
from qbrm.energies import CoupledBoltzmannMachine
from qbrm.energies.density import density
from qbrm.energies.hidden_ising import hidden_ising, load_hidden_ising
from qbrm.errors import InputError
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.interop.bqm import from_bqm, to_bqm
from qbrm.interop.ising import Ising, log_weight, with_pair_spins, without_pair_spins
from qbrm.interop.kaiwu_matrix import from_kaiwu_matrix, to_kaiwu_matrix
from qbrm.interop.kaiwu_plugin import (
    from_boltzmann_machine,
    from_restricted_boltzmann_machine,
    to_boltzmann_machine,
    to_restricted_boltzmann_machine,
)

pytestmark = pytest.mark.usefixtures("one_thread")

HIDDEN = 5


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(5)
    score = CoupledBoltzmannMachine(DIM, hidden=HIDDEN)
    settings = TrainingSettings(epochs=1, batch_pairs=16, learning_rate=0.03, first_kept=1)
    score.scatter()
    data = simulated_pairs(200, seed=20), simulated_pairs(50, seed=21)
    score.standardise(*examples(rows=400, seed=20))
    train(score, PreferenceLikelihood(), *data, settings, seed=0)
    assert score.upper_couplings.abs().min() > 1e-3
    return score


@pytest.fixture
def plugin():
    return pytest.importorskip("kaiwu.torch_plugin", reason="kaiwu-torch-plugin is not installed; see docs/kaiwu.md")


def example():
    embedding, base_reward = examples(rows=1)
    return embedding[0], float(base_reward[0])


def double(problem):
    return Ising(problem.fields.double(), problem.couplings.double())


def hidden_energy(problem):
    """Energies of all hidden states, less their mean: a constant means nothing."""
    energy = -log_weight(double(problem), states(len(problem.fields)))
    return energy - energy.mean()


def centred(energy):
    return energy.detach().double() - energy.detach().double().mean()


def assert_energies(found, expected):
    assert float(expected.max() - expected.min()) > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def reward_density(score, embedding, base_reward):
    """log p(r | e) at some rewards, from the closed form."""
    clamped = score.clamp(embedding[None], torch.tensor([base_reward]))
    with torch.no_grad():
        return score.log_density(clamped, torch.linspace(-3, 3, 13)[None])


def forgetful(score):
    """The same score with other hidden biases and couplings."""
    other = copy.deepcopy(score)
    torch.nn.init.normal_(other.c)
    torch.nn.init.normal_(other.upper_couplings)
    return other


def as_boltzmann_machine(problem):
    return from_boltzmann_machine(to_boltzmann_machine(problem))


def as_restricted_machine(problem):
    restricted = to_restricted_boltzmann_machine(with_pair_spins(problem), HIDDEN)
    return without_pair_spins(from_restricted_boltzmann_machine(restricted), HIDDEN)


def as_kaiwu_matrix(problem):
    return from_kaiwu_matrix(to_kaiwu_matrix(problem))


def as_bqm(problem):
    return from_bqm(to_bqm(problem))[0]


@torch.no_grad()
def test_hidden_energies_are_joint_ones_with_the_reward_integrated_out(trained):
    embedding, base_reward = example()
    grid = torch.linspace(-15, 15, 6001, dtype=torch.float64)
    inside = trained.to_standard(torch.tensor(base_reward)).expand(len(grid))
    loc, scale = trained.embedding_loc, trained.embedding_scale
    joint = joint_energy(trained, ((embedding - loc) / scale).expand(len(grid), -1), inside, grid)
    assert_energies(hidden_energy(hidden_ising(trained, embedding, base_reward)), centred(-torch.logsumexp(-joint, 0)))


def test_a_trained_machine_as_the_plugins_one_keeps_its_energies(trained, plugin):
    problem = hidden_ising(trained, *example())
    converted = to_boltzmann_machine(problem)
    assert isinstance(converted, plugin.BoltzmannMachine)
    assert_energies(centred(converted(((1 + states(HIDDEN)) / 2).float())), hidden_energy(problem))


def test_a_trained_machine_as_a_restricted_one_keeps_its_energies(trained, plugin):
    problem = hidden_ising(trained, *example())
    converted = to_restricted_boltzmann_machine(with_pair_spins(double(problem)), HIDDEN)
    pairs = math.comb(HIDDEN, 2)
    assert isinstance(converted, plugin.RestrictedBoltzmannMachine)
    assert (converted.num_visible, converted.num_hidden) == (HIDDEN, pairs)
    auxiliary = (1 + states(pairs)) / 2
    energy = [
        -torch.logsumexp(-converted(torch.cat([row.expand(len(auxiliary), -1), auxiliary], 1)), 0)
        for row in (1 + states(HIDDEN)) / 2
    ]
    assert_energies(centred(torch.stack(energy)), hidden_energy(problem))


def test_hidden_spins_are_no_two_layers_even_without_couplings(trained, plugin):
    uncoupled = copy.deepcopy(trained)
    torch.nn.init.zeros_(uncoupled.upper_couplings)
    with pytest.raises(InputError, match="couplings within a layer"):
        to_restricted_boltzmann_machine(hidden_ising(uncoupled, *example()), 2)


def test_trained_machine_as_a_kaiwu_matrix_has_its_energies_on_all_states(trained):
    problem = hidden_ising(trained, *example())
    rows = np.concatenate([states(HIDDEN).numpy(), np.ones((2**HIDDEN, 1))], 1)
    energy = -np.einsum("si,ij,sj->s", rows, to_kaiwu_matrix(problem), rows)
    assert_energies(centred(torch.from_numpy(energy)), hidden_energy(problem))


def test_trained_machine_as_a_bqm_has_its_energies_on_all_states(trained):
    pytest.importorskip("dimod", reason="dimod needs the extra qbrm[dwave]")
    problem = hidden_ising(trained, *example())
    energy = to_bqm(problem).energies((states(HIDDEN).numpy(), range(HIDDEN)))
    assert_energies(centred(torch.from_numpy(energy)), hidden_energy(problem))


@pytest.mark.parametrize(
    ("package", "there_and_back"),
    [
        ("kaiwu.torch_plugin", as_boltzmann_machine),
        ("kaiwu.torch_plugin", as_restricted_machine),
        ("numpy", as_kaiwu_matrix),
        ("dimod", as_bqm),
    ],
    ids=["boltzmann", "restricted", "matrix", "bqm"],
)
def test_a_trained_machine_comes_back_with_energies_and_density(trained, package, there_and_back):
    pytest.importorskip(package, reason=f"{package} is not installed; see docs/kaiwu.md and the extra qbrm[dwave]")
    embedding, base_reward = example()
    problem = hidden_ising(trained, embedding, base_reward)
    back, expected = forgetful(trained), reward_density(trained, embedding, base_reward)
    assert (reward_density(back, embedding, base_reward) - expected).abs().max() > 0.05
    load_hidden_ising(back, there_and_back(problem), embedding, base_reward)
    assert_energies(hidden_energy(hidden_ising(back, embedding, base_reward)), hidden_energy(problem))
    torch.testing.assert_close(reward_density(back, embedding, base_reward), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(back.c, trained.c, rtol=0, atol=1e-4)
    torch.testing.assert_close(back.upper_couplings, trained.upper_couplings, rtol=0, atol=1e-4)


def test_a_score_with_a_gate_comes_back_through_it(trained):
    gated = copy.deepcopy(trained)
    embedding, _ = examples(rows=400, seed=3)
    gated.close_gate(embedding[:300], embedding[300:])
    half_open = (gated.familiarity(embedding) - 0.5).abs().argmin()
    near, base_reward = embedding[half_open], 0.3
    assert 0.2 < float(gated.familiarity(near[None])) < 0.8
    problem, back = hidden_ising(gated, near, base_reward), forgetful(gated)
    load_hidden_ising(back, problem, near, base_reward)
    torch.testing.assert_close(back.c, gated.c, rtol=0, atol=1e-3)
    far = torch.full((DIM,), 1e4)
    with pytest.raises(InputError, match="gate is closed"):
        load_hidden_ising(back, problem, far, base_reward)


def test_pair_spins_leave_every_weight_as_it_was_and_can_be_summed_out():
    problem = double(hidden_ising(machine(hidden=4, strength=1.5), *example()))
    restricted = with_pair_spins(problem)
    added = math.comb(4, 2)
    everything = log_weight(restricted, states(4 + added)).view(2**4, -1)
    torch.testing.assert_close(
        torch.logsumexp(everything, 1).log_softmax(0), log_weight(problem, states(4)).log_softmax(0)
    )
    back = without_pair_spins(restricted, 4)
    torch.testing.assert_close(back.fields, problem.fields)
    torch.testing.assert_close(back.couplings, problem.couplings)


def test_summing_out_hidden_spins_with_fields_keeps_the_marginal():
    random = torch.Generator().manual_seed(0)
    between = torch.randn(3, 4, generator=random, dtype=torch.float64)
    between[0, 0] = between[1, 1] = between[2, 2] = between[1, 3] = between[2, 3] = 0
    couplings = torch.zeros(7, 7, dtype=torch.float64)
    couplings[:3, 3:] = between
    problem = Ising(torch.randn(7, generator=random, dtype=torch.float64), couplings + couplings.T)
    expected = torch.tensor(
        [
            torch.logsumexp(
                torch.stack(
                    [
                        log_weight(problem, torch.tensor(visible + hidden, dtype=torch.float64))
                        for hidden in itertools.product([-1.0, 1.0], repeat=4)
                    ]
                ),
                0,
            )
            for visible in itertools.product([-1.0, 1.0], repeat=3)
        ],
        dtype=torch.float64,
    )
    found = log_weight(without_pair_spins(problem, 3), states(3))
    torch.testing.assert_close(found.log_softmax(0), expected.log_softmax(0))


def test_hidden_spins_that_touch_three_visible_ones_are_refused():
    couplings = torch.zeros(4, 4)
    couplings[:3, 3] = couplings[3, :3] = 1
    with pytest.raises(InputError, match="touches 3 visible ones"):
        without_pair_spins(Ising(torch.zeros(4), couplings), 3)


@pytest.mark.parametrize(
    ("problem", "embedding", "message"),
    [
        (Ising(torch.zeros(3), torch.zeros(3, 3)), torch.zeros(DIM), "3 spins; expected 5"),
        (Ising(torch.zeros(5), torch.ones(5, 5)), torch.zeros(DIM), "diagonal"),
        (Ising(torch.full((5,), math.nan), torch.zeros(5, 5)), torch.zeros(DIM), "5 values that are NaN"),
        (Ising(torch.zeros(5), torch.zeros(5, 5)), torch.zeros(3), r"shape \(3,\); expected \(5,\)"),
        (Ising(torch.zeros(5), torch.zeros(5, 5)), torch.full((DIM,), math.inf), "NaN or infinite"),
    ],
)
def test_what_is_no_hidden_problem_is_refused_and_changes_nothing(problem, embedding, message):
    score = machine(hidden=5)
    before = copy.deepcopy(score.state_dict())
    with pytest.raises(InputError, match=message):
        load_hidden_ising(score, problem, embedding, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in score.state_dict().items())


def test_another_examples_density_comes_back_too(trained):
    embedding, base_reward = examples(rows=3, seed=9)
    back = forgetful(trained)
    load_hidden_ising(back, hidden_ising(trained, *example()), *example())
    with torch.no_grad():
        expected, found = (density(score, score.clamp(embedding, base_reward)).mean for score in (trained, back))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
