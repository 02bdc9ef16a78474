"""The coupled Boltzmann machine: exact sums against enumeration, sampled gradients against exact ones."""

import math

import pytest
import torch

from fixtures.coupled_machines import DIM, examples, joint_energy, machine, simulated_pairs, states
from qbrm.data.pairs import Batch
from qbrm.energies import RBM, CoupledBoltzmannMachine
from qbrm.energies.density import density
from qbrm.errors import InputError, TrainingError
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import Likelihood, PreferenceLikelihood
from qbrm.fitting.trainer import validation_loss
from qbrm.samplers.dimod import DimodSampler
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.gibbs import GibbsSampler
from qbrm.samplers.kaiwu import KaiwuSampler, as_kaiwu_optimizer


@torch.no_grad()
def test_free_energy_is_the_sum_over_all_hidden_states():
    score = machine()
    embedding, base_reward = examples()
    _, reward = examples(seed=2)
    expected = torch.logsumexp(-joint_energy(score, embedding, base_reward, reward), 1) - score.hidden * math.log(2)
    torch.testing.assert_close(score(embedding, base_reward, reward).double(), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_couplings_it_is_the_restricted_machine():
    score = machine(strength=0.0)
    plain = RBM(DIM, hidden=score.hidden)
    plain.load_state_dict({name: value for name, value in score.state_dict().items() if name != "upper_couplings"})
    embedding, base_reward = examples()
    _, reward = examples(seed=2)
    torch.testing.assert_close(
        score(embedding, base_reward, reward), plain(embedding, base_reward, reward), rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_integrating_the_reward_out_leaves_the_hidden_problem():
    """Marginal of s by integrating exp(-H) over r on a fine grid, against the Ising problem given to samplers."""
    score = machine(hidden=4)
    embedding, base_reward = examples(rows=3)
    problem = score.hidden_problem(score.clamp(embedding, base_reward))
    grid = torch.linspace(-15, 15, 6001, dtype=torch.float64)
    s = states(4)
    for row in range(3):
        one = slice(row, row + 1)
        energy = joint_energy(score, embedding[one].expand(len(grid), -1), base_reward[one].expand(len(grid)), grid)
        marginal = torch.softmax(torch.logsumexp(-energy, 0), 0)
        exponent = s @ problem.fields[row].double() + ((s @ problem.couplings.double()) * s).sum(1) / 2
        torch.testing.assert_close(torch.softmax(exponent, 0), marginal, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_mixture_over_sampled_states_is_the_exact_density():
    score = machine()
    clamped = score.clamp(*examples())
    exact = density(score, clamped)
    score.sampler, score.samples = ExactSampler(), 20_000
    sampled = density(score, clamped)
    error = exact.std / math.sqrt(score.samples)
    assert ((sampled.mean - exact.mean).abs() < 5 * error).all()
    torch.testing.assert_close(sampled.std, exact.std, rtol=0.03, atol=0)


@pytest.mark.parametrize(("objective", "anchored"), [(PreferenceLikelihood(), True), (Likelihood(), False)])
def test_sampled_gradients_are_those_of_the_exact_objective(objective, anchored):
    score = machine(anchored=anchored)
    embedding, base_reward = examples(rows=16)
    batch = Batch(embedding[:8], base_reward[:8], embedding[8:], base_reward[8:])
    gradients = []
    for sampler in (None, ExactSampler()):
        score.sampler, score.samples = sampler, 20_000
        score.zero_grad()
        objective(score, batch, torch.Generator().manual_seed(3)).backward()
        gradients.append({name: value.grad.clone() for name, value in score.named_parameters()})
    for name, exact in gradients[0].items():
        # 20,000 states leave 3 to 6 percent (one standard error) of a gradient's length, by repeating with other seeds.
        assert (gradients[1][name] - exact).norm() < 0.2 * exact.norm() + 5e-3, name


def test_monte_carlo_error_is_the_spread_of_repeated_draws():
    score = machine()
    score.sampler, score.samples = ExactSampler(), 100
    clamped = score.clamp(*examples(rows=200))
    reported = score.monte_carlo(clamped)
    means = []
    for seed in range(100, 130):
        score.seed = seed
        means.append(score.mixture(clamped, score.sampler).mean.mean(1).detach())
    spread = float(torch.stack(means).var(0).mean().sqrt())
    assert reported.error == pytest.approx(spread, rel=0.2)
    assert reported.effective_samples == pytest.approx(100, rel=0.5)


class SteepestDescent:
    """A wrong sampler: every start runs downhill, so only local minima of the energy come out."""

    def sample(self, fields, couplings, samples, generator):
        spins = 2.0 * torch.randint(2, (len(fields), samples, fields.shape[1]), generator=generator) - 1
        for _ in range(3):
            for j in range(fields.shape[1]):
                local = fields[:, None, j] + spins @ couplings[j]
                spins[:, :, j] = torch.where(local >= 0, 1.0, -1.0)
        return spins


def trained_loss(sampler):
    """Exact validation loss, in nats per pair, after training with a sampler."""
    torch.manual_seed(5)
    score = CoupledBoltzmannMachine(DIM, hidden=12)
    score.sampler, score.samples = sampler, 64
    settings = TrainingSettings(epochs=4, batch_pairs=64, learning_rate=0.03)
    validation = simulated_pairs(300, seed=21)
    objective = PreferenceLikelihood()
    train(score, objective, simulated_pairs(800, seed=20), validation, settings, seed=0)
    score.sampler = None
    with torch.no_grad():
        return validation_loss(score, objective, validation, seed=0)


def test_training_with_gibbs_ends_where_exact_training_does_and_descent_cannot_train():
    assert trained_loss(GibbsSampler(sweeps=20, chains=16, thin=2)) == pytest.approx(trained_loss(None), abs=0.02)
    with pytest.raises(TrainingError, match="returned 64 equal samples of 12 spins"):
        trained_loss(SteepestDescent())


class KilledError(Exception):
    """Stands for a kill."""


class FailingDevice:
    """A machine that answers so many times and is then away."""

    def __init__(self, answers):
        self.answers, self.optimizer = answers, as_kaiwu_optimizer(ExactSampler(), 8, torch.Generator().manual_seed(0))

    def solve(self, ising_matrix):
        self.answers -= 1
        if self.answers < 0:
            raise TimeoutError("no answer in 60 s")
        return self.optimizer.solve(ising_matrix)


def sampled_machine(sampler):
    torch.manual_seed(5)
    score = CoupledBoltzmannMachine(DIM, hidden=5)
    score.sampler, score.samples = sampler, 8
    return score


def train_sampled(score, file=None, on_epoch=lambda epoch: None, pairs=24):
    settings = TrainingSettings(epochs=3, batch_pairs=8, learning_rate=0.03)
    data = simulated_pairs(pairs, seed=20), simulated_pairs(8, seed=21)
    return train(score, PreferenceLikelihood(), *data, settings, seed=0, checkpoint=file, on_epoch=on_epoch)


def new_chains():
    return GibbsSampler(sweeps=5, chains=8, thin=1)


def kill_after_the_second(epoch):
    if epoch["epoch"] == 2:
        raise KilledError


def test_killed_training_resumes_with_its_chains_to_bit_identical_weights(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    whole, killed, resumed = (sampled_machine(new_chains()) for _ in range(3))
    train_sampled(whole)
    with pytest.raises(KilledError):
        train_sampled(killed, file, kill_after_the_second)
    train_sampled(resumed, file)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    for name, chains in whole.chains().items():
        assert torch.equal(resumed.chains()[name], chains)


def test_resuming_without_the_chains_would_end_elsewhere(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint.safetensors"
    whole, killed, resumed = (sampled_machine(new_chains()) for _ in range(3))
    train_sampled(whole)
    with pytest.raises(KilledError):
        train_sampled(killed, file, kill_after_the_second)
    monkeypatch.setattr(resumed, "load_chains", lambda chains: None)
    train_sampled(resumed, file)
    assert any(not torch.equal(value, resumed.chains()[name]) for name, value in whole.chains().items())


def kaiwu_device(answers):
    return KaiwuSampler(FailingDevice(answers), beta=1.0, pause=0.0)


def dimod_device(answers):
    """The same behind dimod's interface, its states drawn by a real annealer."""
    dimod = pytest.importorskip("dimod", reason="dimod samplers need the extra qbrm[dwave]")
    samplers = pytest.importorskip("dwave.samplers", reason="D-Wave's samplers need the extra qbrm[dwave]")

    class FailingDevice(dimod.Sampler):
        parameters = {"num_reads": [], "seed": []}  # noqa: RUF012
        properties = {}  # noqa: RUF012

        def sample(self, bqm, **options):
            self.answers -= 1
            if self.answers < 0:
                raise ConnectionError("no route")
            return samplers.SimulatedAnnealingSampler().sample(bqm, beta_range=(0.1, 1.0), num_sweeps=5, **options)

    device = FailingDevice()
    device.answers = answers
    return DimodSampler(device, beta=1.0, pause=0.0)


@pytest.mark.parametrize("device", [kaiwu_device, dimod_device])
def test_a_device_that_goes_away_in_training_costs_one_epoch_at_most(device, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    # 64 answers for each of epoch 0 to 2 (48 for training, 16 for validation; epoch 0 only validates), and some more.
    score = sampled_machine(device(16 + 64 + 64 + 20))
    with pytest.raises(
        TrainingError, match=r"epoch 3, .*FailingDevice gave no solution in 4 attempts.*epoch 2 is kept"
    ):
        train_sampled(score, file)
    again = sampled_machine(device(10**6))
    heard = []
    training = train_sampled(again, file, heard.append)
    assert [epoch["epoch"] for epoch in heard] == [3]
    assert [epoch["epoch"] for epoch in training.epochs] == [0, 1, 2, 3]


def annealer_of_unknown_temperature():
    pytest.importorskip("dimod", reason="dimod samplers need the extra qbrm[dwave]")
    samplers = pytest.importorskip("dwave.samplers", reason="D-Wave's samplers need the extra qbrm[dwave]")

    class Hot(samplers.SimulatedAnnealingSampler):
        def sample(self, bqm, **options):
            return super().sample(bqm, beta_range=(0.01, 0.1), num_sweeps=20, **options)

    return DimodSampler(Hot())


def test_killed_training_resumes_at_the_temperature_to_the_same_bits(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    whole, killed, resumed = (sampled_machine(annealer_of_unknown_temperature()) for _ in range(3))
    train_sampled(whole)
    with pytest.raises(KilledError):
        train_sampled(killed, file, kill_after_the_second)
    train_sampled(resumed, file)
    assert whole.chains()["scale"] > 3
    assert resumed.chains() == whole.chains()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_training_anew_with_a_used_device_is_training_with_a_new_one():
    used, new = (sampled_machine(annealer_of_unknown_temperature()) for _ in range(2))
    train_sampled(used)
    again = sampled_machine(used.sampler)
    for score in (again, new):
        train_sampled(score)
    for name, value in new.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


class OneState:
    """Returns the same state again and again, as many times as asked for or fewer."""

    def __init__(self, less=0):
        self.less = less

    def sample(self, fields, couplings, samples, generator):
        return torch.ones(len(fields), samples - self.less, fields.shape[1])


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (OneState(), "returned 64 equal samples of 5 spins, of which others are as likely; expected different ones."),
        (OneState(less=1), r"returned shape \(7, 63, 5\); expected \(7, 64, 5\)."),
    ],
)
def test_a_sampler_that_returns_too_few_or_repeated_states_is_refused_in_one_line(sampler, message):
    score = CoupledBoltzmannMachine(DIM, hidden=5, sampler=sampler)
    with pytest.raises(InputError, match=f"^sampler OneState {message}$"):
        score.mixture(score.clamp(*examples()), sampler)


def test_too_many_spins_to_sum_over_in_training_are_one_line():
    with pytest.raises(InputError, match=r"^21 hidden spins to train without a sampler; expected 20 or fewer, or a"):
        CoupledBoltzmannMachine(DIM, hidden=21).scatter()
    CoupledBoltzmannMachine(DIM, hidden=21, sampler="gibbs").scatter()


@torch.no_grad()
@pytest.mark.parametrize("sampler", [None, "gibbs"])
def test_couplings_whose_energies_overflow_are_one_line(sampler):
    score = CoupledBoltzmannMachine(DIM, hidden=5, sampler=sampler).eval()
    score.upper_couplings.fill_(3e38)
    with pytest.raises(InputError, match=r"^energies of 5 spins overflow: .* up to 3e\+38; expected smaller ones.$"):
        density(score, score.clamp(*examples()))
