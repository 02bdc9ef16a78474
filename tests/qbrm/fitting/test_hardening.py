"""Learning that hacks do not pay, in worlds whose truth is known."""

from dataclasses import replace

import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.energies import ENERGY_SCORES, build_score
from qbrm.fitting import Fold
from qbrm.fitting.fit import train_members
from qbrm.fitting.hardening import Harden
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.refinement import refine

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, PADDED = 6, 3


def responses(count, generator):
    """Few responses look padded at all."""
    embedding = torch.randn(count, DIM, generator=generator)
    embedding[:, PADDED] *= 0.2
    return embedding


def clean(pairs=160, seed=0):
    """Base rewards read the first coordinate, and labels the first two."""
    generator = torch.Generator().manual_seed(seed)
    embedding = responses(2 * pairs, generator)
    even = torch.arange(0, 2 * pairs, 2)
    better = embedding[0::2, :2].sum(1) > embedding[1::2, :2].sum(1)
    sides = torch.where(better, even, even + 1), torch.where(better, even + 1, even)
    return PairData(embedding, embedding[:, 0], *sides)


def hacks(pairs=160, seed=10):
    """Hacks move one coordinate far, which labels say nothing of, and the base reward rises with it."""
    generator = torch.Generator().manual_seed(seed)
    original = responses(pairs, generator)
    hacked = original.clone()
    hacked[:, PADDED] += 2
    embedding = torch.cat([original, hacked])
    reward = embedding[:, 0] + torch.cat([torch.zeros(pairs), 2 * torch.ones(pairs)])
    return PairData(embedding, reward, torch.arange(pairs), torch.arange(pairs) + pairs)


def trained(name, harden, seed=0):
    settings = ENERGY_SCORES[name].fit_settings
    settings = replace(settings, training=replace(settings.training, epochs=30, batch_pairs=32, learning_rate=3e-3))
    fold = Fold(clean(), clean(40, seed=1), seed, harden=harden)
    return train_members(lambda: build_score(name, DIM), fold, settings).members


def share_of_wins(score, pairs):
    reward = refine(score, pairs.embedding, pairs.reward)
    return float((reward[pairs.rejected] >= reward[pairs.chosen]).double().mean())


def of_hacks(weight=1.0):
    pairs = hacks()
    return Harden(pairs, torch.arange(pairs.n_pairs), weight)


@pytest.mark.parametrize("name", ["residual", "sqrbm"])
def test_hacks_of_other_prompts_stop_winning_and_clean_pairs_lose_nothing(name):
    plain, hardened = (trained(name, harden).combined(rival=False).score for harden in (None, of_hacks()))
    fresh, test = hacks(seed=20), clean(400, seed=21)
    assert share_of_wins(plain, fresh) > 0.6
    assert share_of_wins(hardened, fresh) < 0.05
    assert share_of_wins(hardened, test) <= share_of_wins(plain, test) + 0.08


def test_a_gate_gives_hacks_their_rewards_back_unless_they_are_familiar_to_it():
    members, fresh = trained("sqrbm", of_hacks()), hacks(seed=20)
    knows_pairs_only = replace(members, folds=[replace(fold, harden=None) for fold in members.folds])
    wins = [
        share_of_wins(members.combined(gate, rival=False).score, fresh)
        for gate in (None, knows_pairs_only.gate(), members.gate())
    ]
    assert wins[0] < 0.05
    assert wins[1] > 0.6
    assert wins[2] < wins[1] / 2


def test_the_loss_is_that_of_the_preferences_and_that_of_the_hacks():
    score, objective, pairs = build_score("sqrbm", DIM), PreferenceLikelihood(), clean(8)
    single = hacks().only(torch.arange(160) == 5)
    harden = Harden(single, torch.tensor([5]), 0.5)
    losses = [
        made(score, pairs.batch(slice(None)), torch.Generator()) for made in (objective, harden.added_to(objective))
    ]
    of_hack = -score.log_preference(single.batch(slice(None)))
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * of_hack[0])
    assert replace(harden, weight=0.0).added_to(objective) is objective
    assert harden.only(torch.tensor([False])).added_to(objective) is objective


def test_the_prompts_that_set_a_gates_threshold_have_no_part_in_its_density():
    pairs = hacks(64)
    harden = Harden(pairs, torch.arange(64) // 2)
    train, held_out = harden.divided()
    assert len(held_out) == 2 * 2 * 4
    assert len(train) + len(held_out) == len(pairs.embedding)
    rows = {tuple(row) for row in train.tolist()}
    assert rows.isdisjoint({tuple(row) for row in held_out.tolist()})
