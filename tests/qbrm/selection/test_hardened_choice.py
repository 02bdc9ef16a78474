"""Choosing a score that is hardened: hacks of a prompt judge with the pairs of that prompt, and train nothing there."""

import itertools

import numpy as np
import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.fitting.hardening import Harden
from qbrm.selection import Choosing, cross_validation
from qbrm.selection.candidates import Family
from qbrm.selection.cross_validation import log_preferences, tempered_base

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS, ELSEWHERE = 30, 999


@pytest.fixture(scope="module")
def choosing():
    """A pair on each prompt, two hacks on each of twenty of these, and one on a prompt that chooses nothing."""
    generator = torch.Generator().manual_seed(0)
    even = torch.arange(0, 2 * PROMPTS, 2)
    data = PairData(
        torch.randn(2 * PROMPTS, 3, generator=generator), torch.randn(2 * PROMPTS, generator=generator), even, even + 1
    )
    number = 7 * torch.arange(PROMPTS) + 3
    of_hacks = torch.cat([number[5:25].repeat_interleave(2), torch.tensor([ELSEWHERE])])
    count = len(of_hacks)
    hacks = PairData(
        torch.randn(2 * count, 3, generator=generator),
        torch.randn(2 * count, generator=generator),
        torch.arange(count),
        torch.arange(count) + count,
    )
    return Choosing(data, number.repeat_interleave(2), 0, torch.device("cpu"), harden=Harden(hacks, of_hacks, 0.5))


def test_hacks_on_the_prompts_that_judge_train_nothing(choosing):
    everything = set(choosing.harden.prompt.tolist())
    for judged, validating in itertools.permutations(choosing.groups, 2):
        of_groups = [set(choosing.prompt[choosing.of(group).chosen].tolist()) for group in (judged, validating)]
        harden = choosing.hacks_without(judged, validating)
        training, held = (set(harden.prompt[part].tolist()) for part in (~harden.held, harden.held))
        assert training == everything - of_groups[0] - of_groups[1]
        assert held == everything & of_groups[1]
        assert ELSEWHERE in training


def test_a_training_serves_two_groups_and_each_chooses_its_epoch_by_hacks_of_its_own(choosing, monkeypatch):
    measured = []

    def train(score, objective, pairs, validation, *settings, validation_objective, on_epoch):
        measured.append((objective.harden, validation_objective))
        on_epoch({"validation_loss": 1.0})

    monkeypatch.setattr(cross_validation, "train", train)
    monkeypatch.setattr(
        cross_validation, "validation_loss", lambda score, objective, *given: measured.append((None, objective)) or 2.0
    )
    family = Family("residual")
    states = choosing._train(family, choosing.new_score(family, 0), (1, 4), 0)
    assert states.keys() == {(1, 4), (4, 1)}
    of_group = [set(choosing.prompt[choosing.of(group).chosen].tolist()) for group in (1, 4)]
    for (_, objective), held in zip(measured, of_group[::-1], strict=True):
        assert objective.validates
        validating = set(objective.harden.prompt[objective.harden.held].tolist())
        assert validating == held & set(choosing.harden.prompt.tolist())
    trained = measured[0][0]
    assert set(trained.prompt[~trained.held].tolist()).isdisjoint(of_group[0] | of_group[1])


def test_every_hack_on_a_prompt_that_chooses_is_judged_by_the_score_of_its_group(choosing):
    scores = {group: tempered_base(choosing.without(group), choosing.device) for group in choosing.groups}
    group_of = dict(zip(choosing.prompt[choosing.data.chosen].tolist(), choosing.group.tolist(), strict=True))
    prompts = choosing.harden.prompt.tolist()
    expected = [
        -log_preferences(scores[group_of[prompt]], choosing.harden.pairs.only(torch.arange(len(prompts)) == place))[0]
        for place, prompt in enumerate(prompts)
        if prompt != ELSEWHERE
    ]
    np.testing.assert_allclose(choosing.hack_losses(scores), expected, atol=1e-6)
    judged = choosing.judged_prompts
    assert judged.tolist() == [*choosing.prompt[choosing.data.chosen].tolist(), *prompts[:-1]]
