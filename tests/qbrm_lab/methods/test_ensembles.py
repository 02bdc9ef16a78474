"""Methods with several members: mean of networks, geometric mean of machines."""

from dataclasses import replace

import pytest
import torch

from fixtures.methods import with_training
from qbrm.data.pairs import PairData
from qbrm.fitting import Training
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.fit import combined
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.methods.ensemble import RefinedEnsemble
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


class Fixed:
    """A method whose rewards depend on the seed of its fold alone."""

    name = "fixed"

    def fit(self, task):
        def rewards(features):
            generator = torch.Generator().manual_seed(task.seed)
            direction = torch.randn(DIM, generator=generator)
            return 3 + features.embedding @ direction

        return Fitted(rewards, training=Training([], 1, 1.0, 2))


@pytest.mark.parametrize(
    ("combination", "combine"),
    [("worst", lambda rewards: rewards.amin(0)), ("uncertainty", lambda rewards: rewards.mean(0) - rewards.var(0) / 2)],
)
def test_refinements_are_combined_in_deviations_of_each(combination, combine):
    asked = task(seed=7)
    found = RefinedEnsemble("fixed", Fixed(), 3, combination).fit(asked).rewards(asked.features)
    single = [Fixed().fit(replace(asked, seed=7 + MEMBER_SEEDS * index)).rewards(asked.features) for index in range(3)]
    standard = torch.stack([(reward - reward.mean()) / reward.std() for reward in single])
    torch.testing.assert_close(found, combine(standard))


@pytest.mark.parametrize("name", ["residual:members=3,worst", "sqrbm:gate,members=3,uncertainty"])
def test_no_member_of_a_careful_ensemble_learns_from_what_sets_units_and_temperature(name):
    seen = []
    method = build_method(name)
    asked = task()
    asked = replace(asked, pairs=pairs(1), prompt=torch.arange(len(asked.features.reward)))

    class Spy:
        def fit(self, member):
            seen.append((member.pairs, member.validation))
            return Fitted(lambda features: features.reward, training=Training([], 1, 1.0, 2))

    assert method.described()["gate"] is ("gate" in name)
    replace(method, member=Spy()).fit(asked)
    assert len(seen) == 3
    assert all(learnt is asked.pairs and held is asked.validation for learnt, held in seen)
