"""Scores are fitted to arrays, as scikit-learn's estimators are."""

import numpy as np
import pytest
import torch

from qbrm.energies import ENERGY_SCORES, build_score
from qbrm.errors import InputError
from qbrm.fitting import FitSettings, TrainingSettings
from qbrm.fitting.arrays import fold_of_arrays
from qbrm.refinement import refine

pytestmark = pytest.mark.usefixtures("one_thread")

DIM, PAIRS = 4, 400
QUICK = FitSettings(training=TrainingSettings(epochs=6, batch_pairs=32, learning_rate=0.02))
MACHINES = [name for name in ENERGY_SCORES if name != "ebrm"]


def planted(seed, pairs=PAIRS):
    """Embeddings, base rewards that see half of what makes a response good, and pairs by all of it."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2 * pairs, DIM, generator=generator)
    reward = embedding[:, 1]
    quality = reward + embedding[:, 0]
    first, second = torch.arange(0, 2 * pairs, 2), torch.arange(1, 2 * pairs, 2)
    better = quality[first] > quality[second]
    return embedding, reward, torch.where(better, first, second), torch.where(better, second, first)


def new_score(name):
    return build_score(name, DIM, hidden=4)


def accuracy(reward, chosen, rejected):
    return float((reward[chosen] > reward[rejected]).float().mean())


def weights(score):
    return score.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("name", MACHINES)
def test_a_fitted_machine_recovers_a_planted_preference(name):
    score = new_score(name).fit(*planted(0), settings=QUICK)
    embedding, reward, *pairs = planted(1)
    assert not score.training
    base, refined = accuracy(reward, *pairs), accuracy(refine(score, embedding, reward), *pairs)
    assert base < 0.8
    assert refined > 0.9


@pytest.mark.parametrize("name", ENERGY_SCORES)
def test_the_same_seed_gives_the_same_weights(name):
    data = planted(0, pairs=40)
    fitted = []
    for seed, drawn_before in ((0, 5), (0, 6), (1, 5)):
        torch.manual_seed(drawn_before)
        fitted.append(weights(new_score(name).fit(*data, epochs=1, seed=seed)))
    assert_same(fitted[0], fitted[1])
    assert any(not torch.equal(value, fitted[2][key]) for key, value in fitted[0].items())


@pytest.mark.parametrize("name", ENERGY_SCORES)
def test_numpy_arrays_and_tensors_give_the_same_weights(name):
    data = planted(0, pairs=40)
    arrays = [part.numpy() for part in data]
    assert_same(*(weights(new_score(name).fit(*given, epochs=1)) for given in (data, arrays)))


def test_labels_that_say_nothing_new_keep_the_base_rewards_order(caplog):
    """The labels are drawn with just the probabilities that the base rewards claim."""
    embedding, reward, chosen, rejected = planted(0)
    claimed = torch.sigmoid(reward[rejected] - reward[chosen])
    turned = torch.rand(PAIRS, generator=torch.Generator().manual_seed(3)) < claimed
    pairs = torch.where(turned, rejected, chosen), torch.where(turned, chosen, rejected)
    score = new_score("sqrbm").fit(embedding, reward, *pairs, settings=QUICK)
    assert torch.equal(refine(score, embedding, reward).argsort(), reward.argsort())
    assert "no epoch beat the base rewards" in caplog.text


def test_epochs_are_told():
    heard = []
    new_score("rbm").fit(*planted(0, pairs=40), epochs=2, on_epoch=heard.append)
    assert [epoch["epoch"] for epoch in heard] == [0, 1, 2]


def fold(chosen, rejected, prompt=None, share=0.5):
    rows = 1 + max(*chosen, *rejected)
    arrays = (np.zeros((rows, DIM), np.float32), np.zeros(rows, np.float32), np.array(chosen), np.array(rejected))
    return fold_of_arrays(*arrays, prompt, share=share, seed=0, like=torch.zeros(()))


def test_responses_that_pairs_connect_are_one_prompt():
    numbers = fold(chosen=[0, 1, 3, 5], rejected=[1, 2, 4, 6]).prompt.tolist()
    assert [numbers.index(number) for number in numbers] == [0, 0, 0, 3, 3, 5, 5]


@pytest.mark.parametrize("prompt", [None, np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])])
def test_no_prompt_trains_and_validates(prompt):
    halves = fold(chosen=[0, 1, 3, 5, 7], rejected=[1, 2, 4, 6, 8], prompt=prompt)
    trained, held_out = (set(halves.prompt[part.chosen].tolist()) for part in (halves.pairs, halves.validation))
    assert (len(trained), len(held_out)) == (2, 2)
    assert trained.isdisjoint(held_out)
    assert halves.pairs.n_pairs + halves.validation.n_pairs == 5


GOOD = planted(0, pairs=4)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(8), r"embedding has shape \(8,\), reward \(8,\); expected \(responses, dim\)"),
        (1, torch.zeros(7), r"reward \(7,\); expected"),
        (0, torch.full((8, DIM), torch.nan), "embedding holds 32 values that are NaN or infinite"),
        (1, torch.full((8,), torch.inf), "reward holds 8 values that are NaN or infinite"),
        (2, torch.tensor([0, 2, 4, 8]), "chosen goes from 0 to 8; expected rows from 0 to 7"),
        (3, torch.tensor([-1, 3, 5, 7]), "rejected goes from -1 to 7; expected rows from 0 to 7"),
        (3, torch.tensor([1, 3, 5]), "4 chosen and 3 rejected rows; expected as many of each"),
        (2, torch.zeros(4), "chosen is torch.float32 .*; expected whole numbers"),
        (2, torch.zeros(4, dtype=torch.bool), "chosen is torch.bool .*; expected whole numbers"),
    ],
)
def test_arrays_that_do_not_fit_together_are_one_line(place, value, message):
    arrays = [*GOOD]
    arrays[place] = value
    with pytest.raises(InputError, match=message) as error:
        new_score("rbm").fit(*arrays)
    assert "\n" not in str(error.value)


def test_a_wrong_list_of_prompts_is_one_line():
    with pytest.raises(InputError, match="prompt has 3 values for 8 responses; expected one for each"):
        new_score("rbm").fit(*GOOD, prompt=np.arange(3))


def test_pairs_of_one_prompt_are_too_few():
    with pytest.raises(InputError, match=r"pairs on 1 prompt\(s\); expected two or more"):
        new_score("rbm").fit(*GOOD, prompt=np.zeros(8, int))


def test_several_members_are_not_one_score():
    with pytest.raises(ValueError, match="3 members; expected one"):
        new_score("rbm").fit(*GOOD, settings=FitSettings(members=3))
