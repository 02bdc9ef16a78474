"""Choosing a score that is hardened: hacks of a prompt judge with the pairs of that prompt, and train nothing there."""

import numpy as np
import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.fitting.hardening import Harden
from qbrm.selection import Choosing
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
    for group in choosing.groups:
        judged = set(choosing.prompt[choosing.of(group).chosen].tolist())
        training = set(choosing.hacks_without(group).prompt.tolist())
        assert training == everything - judged
        assert ELSEWHERE in training


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
