"""Choosing among candidates: what judges a pair has not seen its prompt, and the simplest good one wins."""

import itertools

import numpy as np
import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.selection import BASE, CANDIDATES, Candidate, Choice, Choosing, cross_validate
from qbrm.selection.candidates import FAMILIES, Family, epochs_for
from qbrm.selection.cross_validation import GROUPS, Judged, by_group, log_preferences, tempered_base

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture
def short(monkeypatch):
    """Trainings of a few passes, where what they learn does not matter."""
    monkeypatch.setattr("qbrm.selection.candidates.LEAST_STEPS", 1)


def choosing(prompts=90, informative=True, seed=0, dim=4):
    """Two pairs a prompt; the embedding tells what the base reward lacks, or nothing."""
    generator = torch.Generator().manual_seed(seed)
    count = 2 * prompts
    embedding = torch.randn(2 * count, dim, generator=generator)
    hidden = 3 * embedding[:, 0] if informative else 3 * torch.randn(2 * count, generator=generator)
    reward = torch.randn(2 * count, generator=generator)
    first, second = torch.arange(count), torch.arange(count, 2 * count)
    better = (hidden + reward)[first] > (hidden + reward)[second]
    pairs = PairData(embedding, reward, torch.where(better, first, second), torch.where(better, second, first))
    return Choosing(pairs, torch.arange(prompts).repeat_interleave(2).repeat(2), seed, CPU)


def prompts_of(choosing, pairs):
    return set(choosing.prompt[pairs.chosen].tolist())


def test_no_prompt_is_in_two_groups_and_none_is_lost():
    on = choosing()
    of_groups = [prompts_of(on, on.of(group)) for group in on.groups]
    assert len(of_groups) == GROUPS
    assert all(not one & other for one, other in itertools.combinations(of_groups, 2))
    assert set.union(*of_groups) == prompts_of(on, on.data)


def test_what_judges_a_group_was_trained_and_tuned_on_others_only(short):
    on = choosing()
    members = on.trained(Family("residual")).members(2, 5)
    judged = prompts_of(on, on.of(2))
    assert len(members.scores) == 5
    for fold in members.folds:
        trained, validated = prompts_of(on, fold.pairs), prompts_of(on, fold.validation)
        assert not (trained | validated) & judged
        assert not trained & validated


def test_labels_of_a_group_do_not_move_the_score_that_judges_it(short):
    """Turning all its pairs around leaves its judge's density as it was."""
    on = choosing()
    turned = on.data.chosen.clone(), on.data.rejected.clone()
    here = on.group == 0
    turned[0][here], turned[1][here] = on.data.rejected[here], on.data.chosen[here]
    other = Choosing(on.data._replace(chosen=turned[0], rejected=turned[1]), on.prompt, on.seed, CPU)
    candidate = Candidate(Family("residual"), members=5)
    scores = [c.trained(candidate.family).scores(candidate, {})(0) for c in (on, other)]
    states = [score.state_dict() for score in scores]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_same_seed_gives_the_same_losses_however_many_threads_train(short):
    candidate = Candidate(Family("residual"), members=5)
    losses = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        on = choosing(prompts=30)
        scores = on.trained(candidate.family).scores(candidate, {})
        losses.append(by_group(on, scores, log_preferences))
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-6)


def judged(*losses):
    return [Judged(candidate, np.asarray(loss, float)) for candidate, loss in zip(CANDIDATES, losses, strict=False)]


def test_the_simplest_within_one_standard_error_of_the_best_is_chosen():
    prompt = np.arange(8)
    noisy = np.array([0.1, -0.1] * 4)
    near = Choice.among(judged(1.01 + noisy, np.full(8, 1.2), np.full(8, 1.0)), prompt)
    assert near.candidate == BASE
    assert near.error.tolist() == [pytest.approx(np.sqrt(8 * 0.01 * 8 / 7) / 8), 0.0, 0.0]
    far = Choice.among(judged(1.05 + noisy, np.full(8, 1.2), np.full(8, 1.0)), prompt)
    assert far.candidate == CANDIDATES[2]


def test_pairs_on_one_prompt_count_as_one_observation():
    pairwise, prompt = np.repeat([0.2, -0.2, 0.1, -0.1], 3), np.repeat(np.arange(4), 3)
    of_pairs = Choice.among(judged(1 + pairwise, np.ones(12)), np.arange(12)).error[0]
    of_prompts = Choice.among(judged(1 + pairwise, np.ones(12)), prompt).error[0]
    assert of_prompts > 1.5 * of_pairs


def small(monkeypatch, *families):
    chosen = tuple(c for c in CANDIDATES if c.family is None or c.family in families)
    monkeypatch.setattr("qbrm.selection.cross_validation.CANDIDATES", chosen)
    return chosen


@pytest.mark.parametrize("informative", [True, False])
def test_refining_is_chosen_where_the_embedding_tells_something_and_the_base_elsewhere(monkeypatch, informative):
    small(monkeypatch, Family("residual"))
    monkeypatch.setattr("qbrm.selection.candidates.LEAST_STEPS", 80)  # enough where there is something to learn
    choice = cross_validate(choosing(prompts=150, informative=informative))
    assert (choice.candidate == BASE) != informative


def test_known_losses_are_not_computed_again(monkeypatch, short):
    candidates = small(monkeypatch, Family("residual"))
    kept = []
    on = choosing(prompts=30)
    first = cross_validate(on, keep=lambda losses: kept.append(dict(losses)))
    monkeypatch.setattr(Choosing, "trained", lambda *_: pytest.fail("trained again"))
    counted = []
    again = cross_validate(on, known=kept[-1], progress=lambda *step: counted.append(step))
    assert len(again.judged) == len(candidates)
    np.testing.assert_array_equal(first.loss, again.loss)
    assert counted[-1][0] == counted[-1][1]


def test_the_tempered_base_keeps_the_order_of_rewards_and_has_the_best_temperature():
    on = choosing(informative=False)
    score = tempered_base(on.data, CPU)
    clamped = score.clamp(on.data.embedding, on.data.reward)
    torch.testing.assert_close(score.from_standard(score.mode(clamped)), on.data.reward)
    at_its_own = -log_preferences(score, on.data).mean()
    for factor in (0.5, 2.0):
        twin = tempered_base(on.data, CPU)
        twin.set_log_temperature(score.log_temperature + np.log(factor))
        assert at_its_own < -log_preferences(twin, on.data).mean()


def test_candidates_are_the_base_and_every_family_with_and_without_gate_alone_and_as_a_mean():
    assert CANDIDATES[0] == BASE
    names = [candidate.name for candidate in CANDIDATES]
    assert len(set(names)) == len(names) == 1 + 4 * len(FAMILIES)
    assert {"residual", "rbm:gate", "sqrbm:members=5", "sqrbm:deep,gate,members=5"} <= set(names)


def test_few_pairs_are_passed_over_more_often():
    settings = Family("sqrbm").settings(100_000)
    assert settings.training.epochs == 5
    assert epochs_for(settings, 2_560) == 10
    assert epochs_for(settings, 10) == 40
