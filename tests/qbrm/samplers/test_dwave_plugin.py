"""D-Wave's plugin: its machines are ours, and its samplers draw through ours, given some of the spins too."""

import itertools

import pytest
import torch

from qbrm.errors import InputError
from qbrm.interop.dwave_plugin import from_graph_machine, to_graph_machine, to_restricted_graph_machine
from qbrm.interop.ising import Ising, given_visible, log_weight
from qbrm.samplers.dimod import as_dimod_sampler
from qbrm.samplers.dwave_plugin import DWavePluginSampler
from qbrm.samplers.exact import ExactSampler

models = pytest.importorskip("dwave.plugins.torch.models", reason="needs the extra qbrm[dwave-plugin]")
samplers = pytest.importorskip("dwave.plugins.torch.samplers", reason="needs the extra qbrm[dwave-plugin]")
bipartite = pytest.importorskip("dwave.plugins.torch.samplers.bipartite_sampler")
pytestmark = pytest.mark.usefixtures("one_thread")
SPINS, VISIBLE, SAMPLES = 5, 2, 4000
SWEEPS = [1.0] * 50


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    couplings = 0.5 * torch.randn(SPINS, SPINS, generator=generator).triu(1)
    return Ising(0.5 * torch.randn(SPINS, generator=generator), couplings + couplings.mT)


def restricted(seed=0):
    fields, couplings = problem(seed)
    couplings[:VISIBLE, :VISIBLE] = couplings[VISIBLE:, VISIBLE:] = 0
    return Ising(fields, couplings)


def states(spins=SPINS):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=spins)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def block_gibbs(machine, chains, seed):
    """Every spin a colour of its own."""
    return samplers.BlockSampler(machine, lambda node: node, chains, SWEEPS, seed=seed)


def layers(machine, chains, seed):
    return bipartite.BipartiteGibbsSampler(
        to_restricted_graph_machine(from_graph_machine(machine)[0], VISIBLE), chains, SWEEPS, seed=seed
    )


def reads(machine, count, seed):
    exact = as_dimod_sampler(ExactSampler(), seeded(seed))
    return samplers.DimodSampler(machine, exact, prefactor=1.0, sample_kwargs={"num_reads": count})


def test_a_machines_energy_is_minus_our_log_weight_and_it_comes_back():
    for visible in (None, VISIBLE):
        machine = to_graph_machine(problem(), visible)
        torch.testing.assert_close(-machine(states()).detach(), log_weight(problem(), states()))
        again, nodes = from_graph_machine(machine)
        assert nodes == list(range(SPINS))
        torch.testing.assert_close(again.fields, problem().fields)
        torch.testing.assert_close(again.couplings, problem().couplings)
    assert machine.hidden_nodes == [2, 3, 4]


def test_a_machine_of_the_plugins_own_is_read_in_its_order_of_nodes():
    machine = models.GraphRestrictedBoltzmannMachine(["b", "a", "c"], [("a", "b"), ("c", "a")], hidden_nodes=["a"])
    ising, nodes = from_graph_machine(machine)
    assert nodes == ["b", "a", "c"]
    torch.testing.assert_close(log_weight(ising, states(3)), -machine(states(3)).detach())


def test_a_restricted_machine_has_no_couplings_within_a_layer():
    machine = to_restricted_graph_machine(restricted(), VISIBLE)
    torch.testing.assert_close(-machine(states()).detach(), log_weight(restricted(), states()))
    with pytest.raises(InputError, match=r"couplings within a layer reach .* with 2 visible spins has none"):
        to_restricted_graph_machine(problem(), VISIBLE)


@pytest.mark.parametrize(("build", "problem_of"), [(block_gibbs, problem), (layers, restricted), (reads, problem)])
def test_its_samplers_draw_from_our_distribution(build, problem_of):
    of = [problem_of(seed) for seed in (0, 1)]
    couplings = torch.stack([one.couplings for one in of])
    drawn = DWavePluginSampler(build, beta=1.0).sample(
        torch.stack([one.fields for one in of]), couplings, SAMPLES, seeded()
    )
    for one, found in zip(of, drawn, strict=True):
        share = log_weight(one, states()).softmax(0)
        torch.testing.assert_close(found.mean(0), share @ states(), rtol=0, atol=0.07)
        second = torch.einsum("p,pi,pj->ij", share, states(), states())
        torch.testing.assert_close(found.T @ found / SAMPLES, second, rtol=0, atol=0.07)


@pytest.mark.parametrize(("build", "problem_of"), [(layers, restricted), (reads, problem)])
def test_conditional_sampling_is_that_of_the_spins_that_are_left(build, problem_of):
    visible = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    drawn = DWavePluginSampler(build, beta=1.0).sample_given(problem_of(), visible, SAMPLES, seeded())
    left = given_visible(problem_of(), visible)
    for fields, found in zip(left.fields, drawn, strict=True):
        share = log_weight(Ising(fields, left.couplings), states(SPINS - VISIBLE)).softmax(0)
        torch.testing.assert_close(found.mean(0), share @ states(SPINS - VISIBLE), rtol=0, atol=0.07)


def test_a_temperature_that_is_not_known_is_estimated():
    def hot(machine, chains, seed):
        return samplers.BlockSampler(machine, lambda node: node, chains, [0.4] * 50, seed=seed)

    sampler = DWavePluginSampler(hot)
    one = problem()
    for seed in range(3):
        drawn = sampler.sample(one.fields[None], one.couplings, SAMPLES, seeded(seed))[0]
    assert sampler.effective_beta == pytest.approx(1, abs=0.15)
    share = log_weight(one, states()).softmax(0)
    torch.testing.assert_close(drawn.mean(0), share @ states(), rtol=0, atol=0.1)


def test_what_the_plugin_refuses_is_one_line_and_the_generator_is_as_it_was():
    generator = seeded()
    before = generator.get_state()
    with pytest.raises(InputError, match=r"BlockSampler failed .*single block per chain"):
        DWavePluginSampler(block_gibbs, beta=1.0).sample_given(problem(), torch.ones(1, VISIBLE), 4, generator)
    assert torch.equal(generator.get_state(), before)
    with pytest.raises(InputError, match="5 visible of 5 spins; expected one or more, and others left"):
        DWavePluginSampler(reads, beta=1.0).sample_given(problem(), torch.ones(1, SPINS), 4, generator)


def test_a_sampler_that_returns_too_few_is_named():
    def few(machine, chains, seed):
        return block_gibbs(machine, chains - 1, seed)

    with pytest.raises(InputError, match="BlockSampler"):
        DWavePluginSampler(few, beta=1.0).sample(problem().fields[None], problem().couplings, 4, seeded())
