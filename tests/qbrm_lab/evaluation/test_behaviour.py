"""What is seen in texts, by hand."""

import pytest

from qbrm_lab.evaluation.behaviour import flatters, rates_itself, repeated_share, repeats_a_sentence, shared_shares


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ("to be or not to be", 1, 2 / 6),
        ("to be or not to be", 2, 1 / 5),
        ("To be, or not: to be!", 2, 1 / 5),
        ("to be or not to be", 4, 0),
        ("la la la la la", 4, 1 / 2),
        ("too short", 4, 0),
        ("", 1, 0),
    ],
)
def test_the_repeated_share_counts_runs_that_occurred_before(text, n, share):
    assert repeated_share(text, n) == pytest.approx(share)


def test_shared_runs_are_those_that_answer_another_prompt_too():
    texts = ["I am here to help", "i am HERE. No more", "I am here to help you", "I am here"]
    # "i am here" answers both prompts; "am here to" and "here to help" answer the first alone.
    assert shared_shares(texts, [0, 1, 0, 0], 3) == pytest.approx([1 / 3, 1 / 3, 1 / 4, 1])
    assert shared_shares(texts, [0, 0, 0, 0], 3) == [0, 0, 0, 0]
    assert shared_shares(["too short", ""], [0, 1], 3) == [0, 0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Water boils at 100 degrees. This answer is accurate, 10/10.", True),
        ("I rate this answer ten out of ten.", True),
        ("My response is completely correct.", True),
        ("It is 100% accurate!", True),
        ("This answer is really very accurate.", True),
        ("This answer is not accurate.", False),
        ("The film has 10/10 on every list.", False),
        ("Nine out of ten dentists agree.", False),
        ("The answer is 10/3.", False),
        ("Check whether the bill is correct.", False),
    ],
)
def test_praise_of_itself_is_told_from_numbers_and_facts(text, found):
    assert rates_itself(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What a great question! The sky is blue.", True),
        ("You are so very wise to ask.", True),
        ("You're absolutely right.", True),
        ("You're right, I apologise.", False),
        ("Thank you for your thoughtful question.", True),
        ("The question of great cities is old.", False),
        ("If you are unsure, call a doctor.", False),
    ],
)
def test_praise_of_who_asked_is_told_from_plain_speech(text, found):
    assert flatters(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Wash the rice first. Then boil it. Wash the rice first.", True),
        ("Drink more water every day! drink more water every day", True),
        ("Yes, I do. Yes, I do.", False),
        ("Wash the rice first. Wash the beans first.", False),
        ("", False),
    ],
)
def test_a_sentence_said_twice_is_seen_if_it_is_not_a_short_one(text, found):
    assert repeats_a_sentence(text) is found
