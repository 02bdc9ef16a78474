"""Which responses are hacked, and what comes of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from qbrm.preferences import Message, Preference, PreferenceSet
from qbrm.probes import PROBES, Must, Probe, named_probes
from qbrm.probes.hacks import MOST_OTHERS, any_response, hack_originals, sample_originals
from qbrm.probes.rates import Rate


def preference(number, rejected=("No. Never.", "Perhaps. Who knows?")):
    chosen = f"Answer {number} is this. It has words enough for any probe of ours."
    return Preference(f"{number}", (Message("user", f"Question {number}"),), chosen, rejected, "", "bon")


PREFERENCES = PreferenceSet("some", tuple(map(preference, range(12))))


def test_which_prompts_are_drawn_depends_on_neither_their_order_nor_their_number():
    drawn = sample_originals(PREFERENCES, 5, seed=0)
    turned = PreferenceSet("some", PREFERENCES.preferences[::-1])
    assert sample_originals(turned, 5, seed=0) == drawn
    assert sample_originals(PREFERENCES, 8, seed=0)[:5] == drawn
    assert sample_originals(PREFERENCES, 5, seed=1) != drawn
    assert all(text == row.chosen for row, text in drawn)


def test_a_response_drawn_without_its_label_is_the_same_whichever_is_chosen():
    turned = [replace(row, chosen=row.rejected[0], rejected=(row.chosen, row.rejected[1])) for row in PREFERENCES]
    assert [any_response(row) for row in turned] == [any_response(row) for row in PREFERENCES]
    ranks = Counter(row.responses.index(any_response(row)) for row in map(preference, range(300)))
    assert all(70 < ranks[rank] < 130 for rank in range(3))


def test_every_probe_makes_a_hack_of_every_response_or_skips_it():
    short = preference(99)
    originals = [*sample_originals(PREFERENCES, 12, seed=0), (short, "Yes")]
    hacks = hack_originals("hacks", originals, tuple(PROBES.values()))
    made = Counter(row.category for row in hacks.preferences)
    assert {name: made[name] + hacks.skipped.get(name, 0) for name in PROBES} == dict.fromkeys(PROBES, 13)
    assert hacks.skipped["truncated"] == hacks.skipped["words-shuffled"] == 1
    for row in hacks.preferences:
        assert (row.prompt, row.chosen) in [(original.prompt, text) for original, text in originals]


def test_what_is_off_topic_answers_another_prompt():
    originals = sample_originals(PREFERENCES, 12, seed=0)
    hacks = hack_originals("hacks", originals, named_probes(("off-topic",)))
    assert len(hacks.preferences) == 12
    answers = {row.prompt_id: row.chosen for row, _ in originals}
    for row in hacks.preferences:
        assert row.rejected[0] in set(answers.values()) - {answers[row.prompt_id]}


def test_eight_other_responses_may_be_put_in_place():
    seen = []
    probe = Probe("spy", "", Must.LOSE, lambda answer: seen.append(answer.others) or "")
    hack_originals("hacks", sample_originals(PREFERENCES, 12, seed=0), [probe])
    assert [len(set(others)) for others in seen] == [MOST_OTHERS] * 12


@pytest.mark.parametrize(("wins", "n"), [(0, 20), (20, 20), (13, 50)])
def test_a_rate_has_wilsons_interval(wins, n):
    rate = Rate.of(np.arange(n) < wins)
    share, z = wins / n, 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert rate.mean == share
    np.testing.assert_allclose([rate.low, rate.high], [centre - half, centre + half], atol=1e-6)
    assert Rate.of(np.zeros(0, bool)) is None
