"""Methods with several members: mean of networks, geometric mean of machines."""

import pytest
import torch

from fixtures.methods import with_training
from qbrm.data.pairs import PairData
from qbrm.fitting import Training
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.fit import combined
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Task
from qbrm_lab.responses import Features

pytestmark = pytest.mark.usefixtures("one_thread")
DIM = 4


def pairs(seed, count=96):
    """Preferences for a direction of the embedding that the base reward knows nothing of."""
    torch.manual_seed(seed)
    embedding, reward = torch.randn(2 * count, DIM), torch.randn(2 * count)
    gold = 2 * embedding[:, 0] + reward
    first, second = torch.arange(count), torch.arange(count, 2 * count)
    better = gold[first] > gold[second]
    return PairData(embedding, reward, torch.where(better, first, second), torch.where(better, second, first))


def task(checkpoint=None, seed=0):
    train, validation = pairs(0), pairs(1)
    features = Features(validation.embedding, validation.reward, torch.zeros(len(validation.reward)))
    return Task(train, validation, features, seed, checkpoint, measure=lambda rewards: {}, on_epoch=lambda epoch: None)


def fitted(name, task):
    return with_training(build_method(name), epochs=2, learning_rate=1e-2).fit(task)


def test_an_ensemble_of_networks_gives_the_mean_of_its_members_rewards():
    every = [fitted("mlp", task(seed=MEMBER_SEEDS * index)) for index in range(3)]
    together = fitted("mlp:ensemble=3", task())
    features = task().features
    expected = torch.stack([each.rewards(features) for each in every]).mean(0)
    torch.testing.assert_close(together.rewards(features), expected)
    assert together.training.seconds > 0
    assert together.training.examples == sum(each.training.examples for each in every)


def test_an_ensembles_training_came_to_nothing_only_if_every_members_did():
    helped, useless = (Training([], best, 1.0, 2) for best in (3, 0))
    assert combined([useless, helped]).best == 3
    assert combined([useless, useless]).best == 0


def test_an_ensemble_of_machines_reads_what_all_its_members_read():
    every = [fitted("sqrbm", task(seed=MEMBER_SEEDS * index)) for index in range(3)]
    together = fitted("sqrbm:members=3", task())
    assert together.score.members == 3
    assert torch.equal(together.score.W, torch.cat([each.score.W for each in every], dim=1))
    assert not torch.equal(every[0].score.W, every[1].score.W)


@pytest.mark.parametrize("name", ["mlp:gate,members=2", "sqrbm:gate,members=2"])
def test_a_gated_ensembles_correction_ends_far_from_its_embeddings(name):
    found = fitted(name, task())
    known = task().features
    moved = (found.rewards(known) - known.reward).abs().mean()
    far = known._replace(embedding=known.embedding + 100)
    torch.testing.assert_close(found.rewards(far), known.reward, rtol=0, atol=float(moved) / 100)


@pytest.mark.parametrize("name", ["mlp:ensemble=3", "sqrbm:members=3"])
def test_every_member_keeps_its_own_training_state(name, tmp_path):
    kept = task(tmp_path / "checkpoint.safetensors")
    first = fitted(name, kept)
    assert len(list(tmp_path.glob("checkpoint*.safetensors"))) == 3
    # Resumed, not trained anew: the seconds of training are those of the first call.
    assert fitted(name, kept).training.seconds == first.training.seconds
