"""Holding corrections near zero on responses whose order is to stay."""

from dataclasses import replace

import pytest
import torch

from qbrm.data.pairs import Batch, PairData
from qbrm.energies import ENERGY_SCORES, Residual, build_score
from qbrm.fitting import Fold, TrainingSettings, fit_score, trainer
from qbrm.fitting.keeping import Keep, KeepingOrder, change_of_margins
from qbrm.fitting.objectives import PreferenceLikelihood

pytestmark = pytest.mark.usefixtures("one_thread")
DIM = 6


def domain(centre, pairs=160, seed=0):
    """Responses around a centre; base rewards read the first coordinate, labels another, so that much is to learn."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2 * pairs, DIM, generator=generator) + centre
    better = embedding[0::2, 1] > embedding[1::2, 1]
    even = torch.arange(0, 2 * pairs, 2)
    return PairData(
        embedding, embedding[:, 0], torch.where(better, even, even + 1), torch.where(better, even + 1, even)
    )


def fitted(name, weight, epochs=15):
    settings = ENERGY_SCORES[name].fit_settings
    settings = replace(settings, training=replace(settings.training, epochs=epochs, batch_pairs=32, learning_rate=3e-3))
    keep = Keep(domain(-1, seed=2), domain(-1, 40, seed=3), weight)
    fold = Fold(domain(1), domain(1, 40, seed=1), keep=keep)
    return fit_score(lambda: build_score(name, DIM), fold, settings).score


@torch.no_grad()
def changed(score, pairs):
    return float(change_of_margins(score, pairs.batch(slice(None))).square().mean())


@pytest.mark.parametrize("name", ["residual", "sqrbm"])
def test_the_kept_correction_goes_to_zero_as_the_weight_grows(name):
    elsewhere = domain(-1, seed=4)
    changes = [changed(fitted(name, weight), elsewhere) for weight in (0, 1, 100)]
    assert changes[0] > 3 * changes[1] > 9 * changes[2]
    assert changes[2] < 0.02


def test_a_weight_of_zero_is_no_penalty():
    keep = Keep(domain(-1), domain(-1, 40, 3), 0.0)
    objective = PreferenceLikelihood()
    assert keep.added_to(objective) is objective


class Affine(Residual):
    """Rewards of which only shift and scale differ from the base rewards'."""

    def expected(self, clamped):
        return 0.4 * clamped.base_reward + 3


def pairs_of(*rewards):
    first, second = (torch.tensor(side) for side in zip(*rewards, strict=True))
    nothing = torch.zeros(len(first), DIM)
    return Batch(nothing, first, nothing, second)


def test_a_shift_and_a_common_scale_change_no_order_and_cost_nothing():
    change = change_of_margins(Affine(DIM), pairs_of((1.0, 0.0), (-2.0, 0.5), (0.3, 0.1)))
    torch.testing.assert_close(change, torch.zeros(3), rtol=0, atol=1e-6)


class Fixed(Residual):
    """Expected rewards as given, of all first responses and then of all second ones."""

    def expected(self, clamped):
        return torch.tensor([2.0, 1.0, 0.0, 0.0])


def test_the_change_of_margins_is_as_by_hand():
    """Margins 2 and 1 against 1 and 1: s = (2 + 1) / 2, m / s - m_0 = (1/3, -1/3)."""
    score, pairs = Fixed(DIM), pairs_of((1.0, 0.0), (1.0, 0.0))
    torch.testing.assert_close(change_of_margins(score, pairs), torch.tensor([1 / 3, -1 / 3]))


def test_rewards_in_reverse_cost_more_than_rewards_of_no_order():
    pairs = pairs_of((1.0, 0.0), (0.5, 0.0))
    costs = []
    for factor in (1.0, 0.0, -1.0):
        score = Affine(DIM)
        score.expected = lambda clamped, factor=factor: factor * clamped.base_reward
        costs.append(float(change_of_margins(score, pairs).square().mean()))
    assert costs[0] == pytest.approx(0)
    assert 0 < costs[1] < costs[2]


def test_the_penalty_is_added_with_its_weight():
    keep = domain(-1)
    score, batch = build_score("residual", DIM), domain(1).batch(slice(0, 32))
    torch.nn.init.normal_(score.a, std=0.3)

    def loss(weight):
        objective = KeepingOrder(PreferenceLikelihood(), Keep(keep, keep, weight))
        return float(objective(score, batch, torch.Generator().manual_seed(0)))

    plain = float(PreferenceLikelihood()(score, batch, torch.Generator()))
    assert loss(2.0) - plain == pytest.approx(2 * (loss(1.0) - plain), rel=1e-4)
    assert loss(1.0) > plain


def test_a_killed_training_that_keeps_goes_on_where_it_stopped(tmp_path):
    """And one that is to keep something else starts anew."""

    def epochs_run(weight, epochs):
        told = []
        keep = Keep(domain(-1, seed=2), domain(-1, 40, seed=3), weight)
        fold = Fold(domain(1), domain(1, 40, seed=1), checkpoint=tmp_path / "checkpoint.safetensors", keep=keep)
        settings = replace(ENERGY_SCORES["residual"].fit_settings, training=TrainingSettings(epochs=epochs))
        fit_score(
            lambda: build_score("residual", DIM), fold, settings, on_epoch=lambda epoch: told.append(epoch["epoch"])
        )
        return told

    class KilledError(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        original = trainer.save_checkpoint

        def dies(path, model, optimiser, best, progress):
            original(path, model, optimiser, best, progress)
            if len(progress["epochs"]) == 3:
                raise KilledError

        patch.setattr(trainer, "save_checkpoint", dies)
        with pytest.raises(KilledError):
            epochs_run(0.5, 4)
    assert epochs_run(0.5, 4) == [3, 4]
    assert epochs_run(0.7, 4) == [0, 1, 2, 3, 4]
