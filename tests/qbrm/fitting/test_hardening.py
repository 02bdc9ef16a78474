"""Learning that hacks do not pay, in worlds whose truth is known."""

from dataclasses import replace

import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.energies import ENERGY_SCORES, build_score
from qbrm.fitting import Fold
from qbrm.fitting.committee import committee
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


def trained(name, harden, seed=0, epochs=30):
    settings = ENERGY_SCORES[name].fit_settings
    settings = replace(settings, training=replace(settings.training, epochs=epochs, batch_pairs=32, learning_rate=3e-3))
    fold = Fold(clean(), clean(40, seed=1), seed, harden=harden)
    return train_members(lambda: build_score(name, DIM), fold, settings).members


def share_of_wins(score, pairs):
    reward = refine(score, pairs.embedding, pairs.reward)
    return float((reward[pairs.rejected] >= reward[pairs.chosen]).double().mean())


def of_hacks(weight=1.0):
    pairs = hacks()
    return Harden(pairs, torch.arange(pairs.n_pairs), weight).holding_out(torch.arange(0, pairs.n_pairs, 8))


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


def test_hacks_of_held_out_prompts_validate_and_the_others_train():
    score, objective, pairs = build_score("sqrbm", DIM), PreferenceLikelihood(), clean(8)
    both = hacks().only(torch.arange(160) < 2)
    harden = Harden(both, torch.tensor([5, 6]), 0.5).holding_out(torch.tensor([6]))
    fold = Fold(pairs, pairs, harden=harden)
    batch, loss = pairs.batch(slice(None)), -score.log_preference(both.batch(slice(None)))
    alone = objective(score, batch, torch.Generator())
    for made, of_hack in ((fold.objective(objective), loss[0]), (fold.validation_objective(objective), loss[1])):
        torch.testing.assert_close(made(score, batch, torch.Generator()) - alone, 0.5 * of_hack)


def test_a_committee_holds_out_the_hacks_of_the_prompts_that_validate_each_member():
    pairs = clean(40)
    prompt = 3 * (torch.arange(80) // 2)
    harden = Harden(hacks(40), 3 * torch.arange(40))
    parts = pairs.only(torch.arange(40) < 30), pairs.only(torch.arange(40) >= 30)
    for fold in committee(Fold(*parts, prompt=prompt, harden=harden), 5):
        validating = set(prompt[fold.validation.chosen].tolist())
        assert set(fold.harden.prompt[fold.harden.held].tolist()) == validating
        assert fold.harden.validation.n_pairs == len(validating) == 8


def test_a_gates_threshold_is_set_by_hacks_that_have_no_part_in_its_density(monkeypatch):
    members = trained("sqrbm", of_hacks(), epochs=1)
    seen = []
    monkeypatch.setattr(type(members.scores[0]), "fitted_gate", lambda score, *embeddings: seen.extend(embeddings))
    members.gate()
    density, threshold = ({tuple(row) for row in part.tolist()} for part in seen[:2])
    assert len(threshold) == 2 * 40 + 2 * 20
    assert density.isdisjoint(threshold)
