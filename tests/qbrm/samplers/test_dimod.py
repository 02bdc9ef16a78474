import itertools
from concurrent.futures import Future

import pytest
import torch

from qbrm.errors import InputError
from qbrm.interop import attempts
from qbrm.interop.bqm import to_bqm
from qbrm.interop.ising import Ising
from qbrm.samplers.base import Sampler
from qbrm.samplers.dimod import DimodSampler

dimod = pytest.importorskip("dimod", reason="dimod samplers need the extra qbrm[dwave]")
pytestmark = pytest.mark.usefixtures("one_thread")

SPINS = 6
STATES = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=SPINS)), dtype=torch.float64)
ANNEALING = {"beta_range": [0.1, 1.0], "num_sweeps": 200}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problems(batch=2, size=0.5, seed=1):
    random = generator(seed)
    fields = size * torch.randn(batch, SPINS, generator=random, dtype=torch.float64)
    couplings = size * torch.randn(batch, SPINS, SPINS, generator=random, dtype=torch.float64).triu(1)
    return fields, couplings + couplings.mT


def probabilities(fields, couplings):
    """The Boltzmann distribution over `STATES`, by enumeration."""
    log_weight = torch.stack([(STATES * (h + STATES @ j / 2)).sum(-1) for h, j in zip(fields, couplings, strict=True)])
    return log_weight.softmax(-1)


def standard_errors_from_exact(samples, fields, couplings):
    """The greatest distance of a first or second moment from the exact one, in errors of independent samples."""
    pairs = torch.triu_indices(SPINS, SPINS, 1)
    everything = [torch.cat([s, s[..., pairs[0]] * s[..., pairs[1]]], -1) for s in (samples, STATES)]
    exact = probabilities(fields, couplings) @ everything[1]
    error = ((1 - exact.square()) / samples.shape[1]).sqrt()
    return float(((everything[0].mean(1) - exact) / error).abs().max())


def dwave(name):
    samplers = pytest.importorskip("dwave.samplers", reason="D-Wave's samplers need the extra qbrm[dwave]")
    return getattr(samplers, name)()


class AggregatedBinaryAnnealer(dimod.Sampler):
    """A real annealer whose answer is aggregated, in units 0 and 1, its variables in another order."""

    parameters = {"num_reads": [], "seed": []}  # noqa: RUF012
    properties = {}  # noqa: RUF012

    def sample(self, bqm, **parameters):
        found = dwave("SimulatedAnnealingSampler").sample(bqm, **ANNEALING, **parameters).aggregate()
        order = [3, 0, 5, 1, 4, 2]
        self.given = dimod.SampleSet.from_samples(
            (found.record.sample[:, order], [found.variables[index] for index in order]),
            "SPIN",
            found.record.energy,
            num_occurrences=found.record.num_occurrences,
        ).change_vartype("BINARY", inplace=False)
        return self.given


class OfUnknownTemperature(dimod.Sampler):
    parameters = {"num_reads": [], "seed": []}  # noqa: RUF012
    properties = {}  # noqa: RUF012

    def __init__(self, beta):
        self.schedule = {"beta_range": [0.1 * beta, beta], "num_sweeps": 100}
        self.calls = 0

    def sample(self, bqm, **parameters):
        self.calls += 1
        return dwave("SimulatedAnnealingSampler").sample(bqm, **self.schedule, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("SimulatedAnnealingSampler", ANNEALING),
        ("SimulatedAnnealingSampler", {"beta_range": [0.3, 3.0], "num_sweeps": 200}),
        ("SimulatedAnnealingSampler", {"beta_schedule_type": "custom", "beta_schedule": [2.0] * 50}),
        (
            "PathIntegralAnnealingSampler",
            {
                "beta_schedule_type": "custom",
                "Hp_field": [1.0] * 100,
                "Hd_field": [1 - step / 99 for step in range(100)],
            },
        ),
    ],
    ids=["annealing", "annealing-to-3", "annealing-at-2", "path-integral"],
)
def test_samplers_of_known_temperature_have_the_exact_moments(name, parameters):
    fields, couplings = problems()
    sampler = DimodSampler(dwave(name), parameters)
    samples = sampler.sample(fields, couplings, 3000, generator())
    assert standard_errors_from_exact(samples, fields, couplings) < 5
    assert sampler.effective_beta == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("beta", [0.1, 8.0])
def test_sampler_of_unknown_temperature_is_brought_to_one(beta):
    fields, couplings = problems()
    annealer = OfUnknownTemperature(beta)
    sampler = DimodSampler(annealer)
    samples = sampler.sample(fields, couplings, 3000, generator())
    assert standard_errors_from_exact(samples, fields, couplings) < 6
    assert sampler.effective_beta == pytest.approx(1, abs=0.06)
    assert annealer.calls > len(fields)


def test_steepest_descent_has_visibly_wrong_moments():
    fields, couplings = problems()
    sampler = DimodSampler(dwave("SteepestDescentSampler"))
    samples = sampler.sample(fields, couplings, 1000, generator())
    assert standard_errors_from_exact(samples, fields, couplings) > 15
    assert sampler.effective_beta == 1e3


def test_annealing_with_its_own_schedule_is_told_to_be_too_cold():
    fields, couplings = problems()
    sampler = DimodSampler(dwave("SimulatedAnnealingSampler"))
    sampler.sample(fields, couplings, 100, generator())
    assert sampler.effective_beta > 3


def test_openjij_is_brought_to_unit_temperature_with_reads_that_differ():
    openjij = pytest.importorskip("openjij", reason="OpenJij's samplers need the extra qbrm[dwave]")
    fields, couplings = problems()
    sampler = DimodSampler(openjij.SQASampler(), {"beta": 2.0, "num_sweeps": 40})
    samples = sampler.sample(fields, couplings, 300, generator())
    exact = probabilities(fields, couplings) @ STATES
    assert sampler.effective_beta == pytest.approx(1, abs=0.3)
    assert len(samples[0].unique(dim=0)) > 10
    assert float(torch.corrcoef(torch.stack([samples.mean(1).flatten(), exact.flatten()]))[0, 1]) > 0.8


def test_same_seed_gives_the_same_states_and_another_seed_others():
    fields, couplings = problems()
    sampler = DimodSampler(dwave("SimulatedAnnealingSampler"), ANNEALING)
    first, again, other = (sampler.sample(fields, couplings, 50, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_aggregated_binary_states_in_another_order_are_the_same_states():
    fields, couplings = problems(batch=1)
    annealer = AggregatedBinaryAnnealer()
    samples = DimodSampler(annealer, beta=1).sample(fields, couplings, 400, generator())
    expected = [
        [2 * record.sample[place] - 1 for place in range(SPINS)]
        for record in annealer.given.data(sorted_by=None)
        for _ in range(record.num_occurrences)
    ]
    assert samples[0].tolist() == expected
    assert standard_errors_from_exact(samples, fields, couplings) < 5


def test_shared_couplings_and_single_precision_are_kept():
    fields, couplings = problems()
    sampler = DimodSampler(dwave("SimulatedAnnealingSampler"), ANNEALING)
    samples = sampler.sample(fields.float(), couplings[0].float(), 20, generator())
    assert isinstance(sampler, Sampler)
    assert samples.dtype == torch.float32
    assert samples.shape == (2, 20, SPINS)


class Wrong(dimod.Sampler):
    parameters = {"num_reads": []}  # noqa: RUF012
    properties = {}  # noqa: RUF012

    def __init__(self, kind):
        self.kind = kind

    def sample(self, bqm, num_reads):
        states, names = torch.ones(num_reads, SPINS).numpy(), list(range(SPINS))
        if self.kind == "few":
            states = states[1:]
        if self.kind == "names":
            names = list("abcdef")
        return dimod.SampleSet.from_samples((states, names), "SPIN", 0.0 * states[:, 0])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("few", r"Wrong returned shape \(1, 9, 6\); expected \(1, 10, 6\)"),
        ("names", "variables .*'a'.*expected 0 to 5"),
    ],
)
def test_sampler_that_returns_something_else_is_named(kind, message):
    with pytest.raises(InputError, match=message):
        DimodSampler(Wrong(kind), beta=1).sample(*problems(), 10, generator())


class Interrupted(dimod.Sampler):
    """Fails as often as it is told to, at once or when its answer is read as remote solvers do, then works."""

    parameters = {"num_reads": [], "seed": []}  # noqa: RUF012
    properties = {}  # noqa: RUF012

    def __init__(self, failures, error, when_read=False):
        self.failures, self.error, self.when_read = failures, error, when_read

    def sample(self, bqm, **parameters):
        self.failures -= 1
        if self.failures < 0:
            return dwave("SimulatedAnnealingSampler").sample(bqm, **ANNEALING, **parameters)
        if self.when_read:
            promise = Future()
            promise.set_exception(self.error)
            return dimod.SampleSet.from_future(promise)
        raise self.error


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(attempts.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("when_read", [False, True])
@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionResetError("gone")])
def test_time_outs_are_tried_again_with_longer_and_longer_pauses(error, when_read, pauses):
    device = Interrupted(3, error, when_read)
    samples = DimodSampler(device, beta=1, pause=2).sample(*problems(), 50, generator())
    assert pauses == [2, 4, 8]
    assert torch.equal(samples, DimodSampler(Interrupted(0, None), beta=1).sample(*problems(), 50, generator()))


def test_a_device_that_stays_away_is_one_line_and_changes_nothing(pauses):
    sampler, random = DimodSampler(Interrupted(3, TimeoutError("late")), beta=1, attempts=3), generator()
    with pytest.raises(
        InputError, match=r"Interrupted gave no solution in 3 attempts \(TimeoutError: late\)"
    ) as failure:
        sampler.sample(*problems(), 50, random)
    assert "\n" not in str(failure.value)
    assert pauses == [5, 10]
    unharmed = DimodSampler(Interrupted(0, None), beta=1).sample(*problems(), 50, generator())
    assert torch.equal(sampler.sample(*problems(), 50, random), unharmed)


def test_other_errors_of_a_device_are_one_line_and_not_tried_again(pauses):
    device = Interrupted(1, RuntimeError("no such\nsolver"))
    with pytest.raises(InputError, match=r"Interrupted failed \(RuntimeError: no such solver\)"):
        DimodSampler(device, beta=1).sample(*problems(), 50, generator())
    assert not pauses


@pytest.mark.parametrize(("options", "message"), [({"attempts": 0}, "attempts is 0"), ({"pause": -1.0}, "pause is -1")])
def test_patience_that_is_none_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        DimodSampler(Wrong("few"), **options)


def test_beta_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="beta is -1"):
        DimodSampler(Wrong("few"), beta=-1.0)


def test_model_has_minus_our_log_weight_as_energy():
    fields, couplings = problems(batch=1)
    model = to_bqm(Ising(fields[0], couplings[0]))
    energies = torch.from_numpy(model.energies((STATES.numpy(), range(SPINS))))
    log_weight = (STATES * (fields[0] + STATES @ couplings[0] / 2)).sum(-1)
    torch.testing.assert_close(energies, -log_weight)
