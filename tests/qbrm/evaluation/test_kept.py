"""How much of an order stayed: counted, with its interval, and said."""

import numpy as np
import pytest

from qbrm.evaluation.verdict import Predictions, compare_with_base, count_kept

PROMPT = np.array([0, 0, 0, 1, 1, 2])
BASE = np.array([1.0, -1.0, 2.0, 0.5, 0.0, -3.0])
REFINED = np.array([0.1, -5.0, -0.2, 0.5, 0.0, -0.1])


def test_the_share_of_unchanged_pairs_is_as_counted_by_hand():
    """The third pair is turned round; the tie of the fifth is still one."""
    kept = count_kept("logs", PROMPT, BASE, REFINED)
    assert (kept.name, kept.prompts, kept.pairs) == ("logs", 3, 6)
    assert kept.unchanged.mean == pytest.approx(5 / 6)
    # The first prompt alone would give 2 / 3, the others one.
    assert kept.unchanged.low == pytest.approx(2 / 3, abs=0.05)
    assert kept.unchanged.high == 1


@pytest.mark.parametrize(("base", "refined"), [(0.0, 0.1), (0.1, 0.0), (-1.0, 1.0)])
def test_a_tie_that_is_made_or_broken_is_a_changed_order(base, refined):
    assert count_kept("logs", np.zeros(1, int), np.array([base]), np.array([refined])).unchanged.mean == 0


def test_a_verdict_says_how_much_of_the_order_stayed():
    kept = count_kept("logs.jsonl", PROMPT, BASE, REFINED)
    predictions = Predictions(np.ones(6), np.full(6, -0.5))
    verdict = compare_with_base("sqrbm", 1.0, PROMPT, predictions, predictions, predictions, {}, keep=kept)
    assert "The order of 83.3% [" in verdict.sentence
    assert "of the 6 pairs of 3 prompts of logs.jsonl is unchanged." in verdict.sentence
    stored = verdict.to_dict()["keep"]
    assert stored["unchanged"] == list(kept.unchanged)
    assert (stored["prompts"], stored["pairs"]) == (3, 6)
