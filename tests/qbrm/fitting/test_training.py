import json
import math
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fixtures.checksums import forget_checksums
from qbrm.data.pairs import Batch, PairData
from qbrm.durable import SUMS
from qbrm.energies import EBRM, RBM, CoupledBoltzmannMachine, SemiQuantumRBM
from qbrm.errors import InputError, TrainingError
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.calibration import BASE_PAIRS, CalibrationLoss, calibrate
from qbrm.fitting.checkpoint import read_progress
from qbrm.fitting.objectives import Likelihood, NCEPlus, PreferenceLikelihood
from qbrm.fitting.trainer import validation_loss
from qbrm.samplers.gibbs import GibbsSampler
from qbrm_lab.comparison.metrics_log import MetricsLogs, TensorBoardLog

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = TrainingSettings(epochs=4, batch_pairs=16, learning_rate=0.01, patience=9)
PREFERENCE = PreferenceLikelihood()
LEARNERS = {
    "rbm, likelihood": (lambda: RBM(3, hidden=4, anchored=False), Likelihood()),
    "sqrbm, preference": (lambda: SemiQuantumRBM(3, hidden=4), PREFERENCE),
    "ebrm, nce": (lambda: EBRM(3), NCEPlus(noise_samples=4)),
}


class KilledError(Exception):
    pass


def some_pairs(seed, pairs=50):
    """Labels follow r0 + 2 e_0, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2 * pairs, 3, generator=generator)
    reward = torch.randn(2 * pairs, generator=generator)
    truth = (reward + 2 * embedding[:, 0]).view(pairs, 2)
    rows = torch.arange(2 * pairs).view(pairs, 2).gather(1, truth.argsort(1, descending=True))
    return PairData(embedding, reward, rows[:, 0], rows[:, 1])


TRAINING, VALIDATION = some_pairs(1), some_pairs(2, pairs=20)


def new_model(learner="sqrbm, preference"):
    torch.manual_seed(42)
    return LEARNERS[learner][0]()


def train_on(model, objective=PREFERENCE, pairs=TRAINING, validation=VALIDATION, plan=PLAN, seed=0, **options):
    return train(model, objective, pairs, validation, plan, seed, **options)


def killed_after(epoch):
    def on_epoch(metrics):
        if metrics["epoch"] == epoch:
            raise KilledError

    return on_epoch


def assert_same_weights(model, other):
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


def different(model, other):
    return any(not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def without_times(epochs):
    return [{key: value for key, value in epoch.items() if "second" not in key} for epoch in epochs]


# ------------------------------------------------------------------------------------------------ reproducibility


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_same_seed_trains_the_same_weights_whatever_was_drawn(learner):
    first, second, other = (new_model(learner) for _ in range(3))
    objective = LEARNERS[learner][1]
    torch.manual_seed(1)
    history = train_on(first, objective)
    torch.manual_seed(2)
    again = train_on(second, objective)
    train_on(other, objective, seed=1)
    assert history.best > 0
    assert_same_weights(first, second)
    assert history.epochs == again.epochs
    assert different(first, other)


@pytest.mark.parametrize("killed", [0, 1, 3])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_killed_run_resumes_to_bit_identical_weights(tmp_path, learner, killed):
    file, objective = tmp_path / "deep" / "checkpoint.safetensors", LEARNERS[learner][1]
    whole, broken, resumed = (new_model(learner) for _ in range(3))
    expected = train_on(whole, objective)
    with pytest.raises(KilledError):
        train_on(broken, objective, checkpoint=file, on_epoch=killed_after(killed))
    with torch.no_grad():  # a new process starts from other weights, all of which must come from the file
        for parameter in resumed.parameters():
            parameter.add_(1)
    heard = []
    torch.manual_seed(777)
    got = train_on(resumed, objective, checkpoint=file, on_epoch=heard.append)
    assert_same_weights(resumed, whole)
    assert got.epochs == expected.epochs
    assert (got.best, got.examples) == (expected.best, expected.examples)
    assert [epoch["epoch"] for epoch in heard] == list(range(killed + 1, 5))


def preference_that_calls(function):
    """An objective that a checkpoint takes for the preference likelihood."""
    stand_in = type(type(PREFERENCE).__name__, (), {"__call__": lambda self, *arguments: function(*arguments)})
    return stand_in()


def test_a_kill_in_the_middle_of_an_epoch_costs_that_epoch_only(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    whole, broken, resumed = (new_model() for _ in range(3))
    train_on(whole)
    batches = []

    def dying(model, batch, generator):
        if model.training:
            batches.append(batch)
        if len(batches) == 11:  # four batches an epoch: the third of epoch 3
            raise KilledError
        return PREFERENCE(model, batch, generator)

    with pytest.raises(KilledError):
        train_on(broken, preference_that_calls(dying), checkpoint=file)
    heard = []
    train_on(resumed, checkpoint=file, on_epoch=heard.append)
    assert [epoch["epoch"] for epoch in heard] == [3, 4]
    assert_same_weights(resumed, whole)


def test_a_finished_run_is_not_trained_again(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    model, loaded = new_model(), new_model()
    expected = train_on(model, checkpoint=file)

    def objective(model, batch, generator):
        raise AssertionError

    got = train_on(loaded, preference_that_calls(objective), checkpoint=file)
    assert_same_weights(loaded, model)
    assert got == expected


OTHERS = {
    "seed": {"seed": 5},
    "settings": {"plan": TrainingSettings(epochs=4, batch_pairs=16, learning_rate=0.02, patience=9)},
    "as many other pairs": {"pairs": some_pairs(3)},
    "fewer pairs": {"pairs": some_pairs(1, pairs=40)},
    "labels reversed": {"pairs": TRAINING._replace(chosen=TRAINING.rejected, rejected=TRAINING.chosen)},
    "other base rewards": {"pairs": TRAINING._replace(reward=TRAINING.reward + 1)},
    "other embeddings": {"pairs": TRAINING._replace(embedding=TRAINING.embedding * 2)},
    "other validation pairs": {"validation": some_pairs(4, pairs=20)},
    "objective": {"objective": Likelihood()},
    "objective's settings": {"objective": NCEPlus(noise_samples=8)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path, other):
    file = tmp_path / "checkpoint.safetensors"
    first = NCEPlus(noise_samples=4) if other == "objective's settings" else PREFERENCE
    train_on(new_model(), **{"objective": first, "checkpoint": file})
    resumed, fresh = new_model(), new_model()
    heard = []
    train_on(resumed, checkpoint=file, on_epoch=heard.append, **OTHERS[other])
    train_on(fresh, **OTHERS[other])
    assert [epoch["epoch"] for epoch in heard] == [0, 1, 2, 3, 4]
    assert_same_weights(resumed, fresh)


def test_a_checkpoint_of_a_model_of_another_size_is_not_resumed(tmp_path):
    file, heard = tmp_path / "checkpoint.safetensors", []
    train_on(new_model(), checkpoint=file)
    train_on(SemiQuantumRBM(3, hidden=6), checkpoint=file, on_epoch=heard.append)
    assert [epoch["epoch"] for epoch in heard] == [0, 1, 2, 3, 4]


def test_a_checkpoint_whose_tensors_do_not_fit_is_refused_by_name(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    train_on(new_model(), checkpoint=file)
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    save_file({**tensors, "model.W": torch.zeros(2, 6, 3)}, file, metadata)
    forget_checksums(tmp_path)
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: not a checkpoint of this model") as caught:
        train_on(new_model(), checkpoint=file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_a_damaged_checkpoint_costs_its_epochs_and_nothing_else(tmp_path, keep):
    file = tmp_path / "checkpoint.safetensors"
    whole, resumed = new_model(), new_model()
    train_on(whole, checkpoint=file)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    train_on(resumed, checkpoint=file)
    assert_same_weights(resumed, whole)


def test_a_checkpoint_is_a_safetensors_file_and_nothing_is_pickled(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    train_on(new_model(), checkpoint=file)
    assert {path.name for path in tmp_path.iterdir()} == {file.name, SUMS}
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    progress = json.loads(header.pop("__metadata__")["progress"])
    assert [epoch["epoch"] for epoch in progress["epochs"]] == [0, 1, 2, 3, 4]
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length
    with safe_open(file, "pt") as tensors:
        assert {"model.W", "best.W", "optimiser.0.exp_avg"} <= set(tensors.keys())


# ----------------------------------------------------------------------------------------- choosing the epoch


def reversed_pairs(pairs):
    return pairs._replace(chosen=pairs.rejected, rejected=pairs.chosen)


def test_epoch_zero_is_chosen_when_training_only_hurts():
    model, untouched = new_model(), new_model()
    result = train_on(model, pairs=reversed_pairs(TRAINING))
    losses = [epoch["validation_loss"] for epoch in result.epochs]
    assert min(losses[1:]) > losses[0]
    assert result.best == 0
    assert_same_weights(model, untouched)


def test_training_stops_when_patience_runs_out():
    plan = TrainingSettings(epochs=50, batch_pairs=16, learning_rate=0.01, patience=2)
    result = train_on(new_model(), pairs=reversed_pairs(TRAINING), plan=plan)
    assert [epoch["epoch"] for epoch in result.epochs] == [0, 1, 2]
    assert result.examples == 2 * 2 * TRAINING.n_pairs


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_model_ends_with_the_epoch_of_the_lowest_validation_loss(learner):
    """At a learning rate this high the loss goes up and down, and the best epoch need not be the last."""
    model, objective = new_model(learner), LEARNERS[learner][1]
    plan = TrainingSettings(epochs=8, batch_pairs=16, learning_rate=0.3, patience=9)
    result = train_on(model, objective, plan=plan)
    losses = [epoch["validation_loss"] for epoch in result.epochs]
    assert losses[result.best] == min(losses)
    assert not model.training
    assert validation_loss(model, objective, VALIDATION, 0) == pytest.approx(min(losses), rel=1e-6)


def test_training_learns_what_there_is_to_learn():
    result = train_on(new_model(), plan=TrainingSettings(epochs=20, batch_pairs=16, learning_rate=0.05, patience=20))
    losses = [epoch["validation_loss"] for epoch in result.epochs]
    assert losses[result.best] < 0.6 * losses[0]
    assert result.epochs[-1]["loss"] < 0.6 * result.epochs[1]["loss"]
    assert "loss" not in result.epochs[0]


def test_validation_uses_the_same_noise_every_time():
    model = new_model("ebrm, nce")
    objective = NCEPlus(noise_samples=4)
    assert validation_loss(model, objective, VALIDATION, 3) == validation_loss(model, objective, VALIDATION, 3)
    assert validation_loss(model, objective, VALIDATION, 3) != validation_loss(model, objective, VALIDATION, 4)


def test_an_epochs_loss_is_the_mean_over_pairs_whatever_the_batches():
    """With a learning rate of zero nothing moves, so that the training loss is that of the untrained model."""
    plan = TrainingSettings(epochs=1, batch_pairs=16, learning_rate=0.0, weight_decay=0.0)  # 50 pairs: 16, 16, 16, 2
    result = train_on(new_model(), plan=plan)
    whole = PREFERENCE(new_model(), TRAINING.batch(slice(None)), torch.Generator()).item()
    assert result.epochs[1]["loss"] == pytest.approx(whole, rel=1e-5)
    assert result.epochs[1]["validation_loss"] == result.epochs[0]["validation_loss"]


def test_measurements_are_kept_with_their_epoch():
    result = train_on(new_model(), measure=lambda model: {"tau": model.tau.item()})
    assert result.epochs[0]["tau"] == 1.0
    assert len({epoch["tau"] for epoch in result.epochs}) == 5


# ------------------------------------------------------------------------------------------ what is not finite


def fails_at(epoch, batch, failure):
    """Preference likelihood with a failure in one batch; four batches make an epoch."""
    calls = []

    def objective(model, data, generator):
        loss = PREFERENCE(model, data, generator)
        if model.training:
            calls.append(None)
            if len(calls) == 4 * (epoch - 1) + batch + 1:
                return failure(model, loss)
        return loss

    return objective


FAILURES = {
    "nan": lambda model, loss: loss * math.nan,
    "infinity": lambda model, loss: loss + math.inf,
    "gradient only": lambda model, loss: loss + (0 * model.a0).sqrt(),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("epoch", "batch"), [(1, 0), (2, 1), (3, 3)])
def test_a_loss_not_finite_names_the_batch_and_keeps_the_last_epoch(tmp_path, failure, epoch, batch):
    file = tmp_path / "checkpoint.safetensors"
    model, whole, resumed = (new_model() for _ in range(3))
    with pytest.raises(TrainingError, match=rf"epoch {epoch}, batch {batch}\b"):
        train_on(model, fails_at(epoch, batch, FAILURES[failure]), checkpoint=file)
    assert [past["epoch"] for past in read_progress(file)["epochs"]] == list(range(epoch))
    assert all_finite(file)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    train_on(whole)
    train_on(resumed, checkpoint=file)
    assert_same_weights(resumed, whole)


def all_finite(file):
    with safe_open(file, "pt") as tensors:
        return all(tensors.get_tensor(name).isfinite().all() for name in tensors.keys())  # noqa: SIM118


def reject(constant):
    raise AssertionError(constant)


def progress_without_nan(file):
    """The progress as strict JSON has it, in which there is no NaN."""
    with safe_open(file, "pt") as tensors:
        return json.loads(tensors.metadata()["progress"], parse_constant=reject)


def test_a_validation_loss_that_is_not_finite_is_never_written(tmp_path):
    file = tmp_path / "checkpoint.safetensors"

    steps = []

    def objective(model, batch, generator):
        loss = PREFERENCE(model, batch, generator)
        if model.training:
            steps.append(loss)
        return loss if model.training or not steps else loss * math.nan

    with pytest.raises(TrainingError):
        train_on(new_model(), objective, checkpoint=file)
    assert [epoch["epoch"] for epoch in progress_without_nan(file)["epochs"]] == [0]


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_step_into_nowhere_at_the_end_of_an_epoch_is_never_written(tmp_path, learner):
    """The loss and gradient of an epoch's only batch are finite; the weights after it are useless."""
    file = tmp_path / "checkpoint.safetensors"
    plan = TrainingSettings(epochs=3, batch_pairs=64, learning_rate=1e30, patience=9)
    with pytest.raises(TrainingError):
        train_on(new_model(learner), LEARNERS[learner][1], plan=plan, checkpoint=file)
    assert [epoch["epoch"] for epoch in progress_without_nan(file)["epochs"]] == [0]
    assert all_finite(file)


# ----------------------------------------------------------------------------------------------- temperature


@pytest.mark.parametrize(("judge", "started_at"), [(0.5, 0.2), (1.5, 1.0), (1.5, 8.0)])
def test_calibration_finds_the_noise_of_the_judge(judge, started_at):
    """Without hidden units P(a > b) = Phi((r_a - r_b) / (sqrt(2) tau)): tau is the noise of either judged reward."""
    generator = torch.Generator().manual_seed(0)
    reward = 10 + 2 * torch.randn(8000, generator=generator)
    judged = (reward + judge * torch.randn(8000, generator=generator)).view(-1, 2)
    rows = torch.arange(8000).view(-1, 2).gather(1, judged.argsort(1, descending=True))
    pairs = PairData(torch.zeros(8000, 3), reward, rows[:, 0], rows[:, 1])
    score = new_model()
    score.standardise(pairs.embedding, pairs.reward)
    with torch.no_grad():
        score.u.zero_()
        score.log_tau.fill_(math.log(started_at * judge / 2))
    before = {name: value.clone() for name, value in score.state_dict().items()}
    calibrate([score], [pairs])
    assert score.tau.item() * score.reward_scale.item() == pytest.approx(judge, rel=0.06)
    assert all(torch.equal(value, before[name]) for name, value in score.state_dict().items() if name != "log_tau")


def test_calibration_never_makes_its_loss_worse():
    for epochs in (0, 1, 6):
        score, objective = new_model(), CalibrationLoss(VALIDATION.n_pairs)
        train_on(score, plan=TrainingSettings(epochs=epochs, batch_pairs=16, learning_rate=0.1, patience=9))
        before = validation_loss(score, objective, VALIDATION, 0)
        calibrate([score], [VALIDATION])
        assert validation_loss(score, objective, VALIDATION, 0) <= before


def test_calibration_counts_the_base_rewards_claims_as_a_few_pairs_more():
    """The expected preferences of that many more pairs, written as pairs with weights."""
    score, batch = new_model(), VALIDATION.batch(slice(0, 10))
    turned = Batch(batch.rejected, batch.rejected_reward, batch.chosen, batch.chosen_reward)
    right, wrong = (score.log_preference(part).double() for part in (batch, turned))
    claimed = 1 / (1 + torch.exp(batch.rejected_reward - batch.chosen_reward).double())
    expected = -(right.sum() + BASE_PAIRS / 10 * (claimed * right + (1 - claimed) * wrong).sum()) / 10
    found = CalibrationLoss(10)(score, batch, torch.Generator())
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_a_few_pairs_that_happen_to_be_right_do_not_make_a_score_certain():
    reward = torch.linspace(-1, 1, 20)
    pairs = PairData(torch.zeros(20, 3), reward, torch.arange(10, 20), torch.arange(10))
    score = new_model()
    score.standardise(pairs.embedding, pairs.reward)
    calibrate([score], [pairs])
    claimed = torch.sigmoid(reward[pairs.chosen] - reward[pairs.rejected])
    probability = score.log_preference(pairs.batch(slice(0, 10))).exp()
    # Ten right of ten, and forty as claimed: about a fifth of the way from the claims to certainty.
    assert (probability < claimed + 0.4 * (1 - claimed)).all()
    assert probability.mean() > claimed.mean()


# --------------------------------------------------------------------------------------------------- metrics


def test_tensorboard_reads_back_the_metrics_of_every_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLogs(TensorBoardLog(tmp_path)) as log:
        result = train_on(new_model(), on_epoch=lambda epoch: log.log(int(epoch["epoch"]), epoch))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("loss", "validation_loss"):
        expected = [(epoch["epoch"], epoch[name]) for epoch in result.epochs if name in epoch]
        got = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in expected]
        assert [value for _, value in got] == pytest.approx([value for _, value in expected], rel=1e-6)


def test_metrics_logs_are_closed_when_training_dies():
    closed = []

    class Log:
        def log(self, epoch, metrics):
            raise KilledError

        def close(self):
            closed.append(self)

    logs = Log(), Log()
    with pytest.raises(KilledError), MetricsLogs(*logs) as both:
        both.log(0, {"loss": 1.0})
    assert closed == list(logs)


def test_a_checkpoint_of_another_sampler_is_not_resumed(tmp_path):
    file, heard = tmp_path / "checkpoint.safetensors", []
    for sampler in (None, GibbsSampler(sweeps=2), GibbsSampler(sweeps=3), GibbsSampler(sweeps=3)):
        torch.manual_seed(0)
        model = CoupledBoltzmannMachine(3, hidden=3)
        model.sampler, model.samples = sampler, 4
        epochs = []
        train_on(model, plan=TrainingSettings(epochs=1), checkpoint=file, on_epoch=epochs.append)
        heard.append(len(epochs))
    assert heard == [2, 2, 2, 0]


def test_a_sample_of_pairs_is_no_pattern_of_their_order():
    """Every other pair is of one kind: half of a sample are, whatever its size."""
    count = 1000
    pairs = PairData(
        torch.zeros(2 * count, 1), torch.zeros(2 * count), torch.arange(count), torch.arange(count) + count
    )
    picked = pairs.sample(100).chosen
    assert len(torch.unique(picked)) == 100
    assert 30 < int((picked % 2).sum()) < 70
    assert torch.equal(picked, pairs.sample(100).chosen)
    assert pairs.sample(count) is pairs
