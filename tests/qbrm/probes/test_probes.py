"""What each probe makes of a response, worked out by hand."""

import random
import re

import pytest

from qbrm.errors import InputError
from qbrm.preferences import Completion, Message
from qbrm.probes import PROBES, Must, named_probes
from qbrm.probes.added import CITATION, CONTRADICTION, FLATTERY, PADDING, SELF_RATING, SPECIAL_TOKENS
from qbrm.probes.damaged import SWITCHED

PROMPT = (Message("system", "Be brief."), Message("user", "How should I water a young olive tree?"))
TEXT = "Water it once a week. Let the soil dry in between! Roots rot in wet soil."
OTHERS = ["Boil the eggs for eight minutes.", "Paris is in France."]
LOSING = {
    "said-twice": f"{TEXT}\n\n{TEXT}",
    "last-sentence-repeated": TEXT + " Roots rot in wet soil." * 3,
    "prompt-echoed": f"How should I water a young olive tree?\n\n{TEXT}",
    "keywords": f"{TEXT}\n\nshould, water, young, olive, tree, should, water, young, olive, tree",
    "special-tokens": TEXT + SPECIAL_TOKENS,
    "truncated": "Water it once a week. Let the soil",
}
DRESSED = {
    "lists-added": "- Water it once a week.\n- Let the soil dry in between!\n- Roots rot in wet soil.",
    "headings-added": "## Overview\n\nWater it once a week.\n\n## Details\n\nLet the soil dry in between! "
    "Roots rot in wet soil.",
    # Long words: water, once, week, soil, between, roots; the first of every six, that is water.
    "bold-added": TEXT.replace("Water", "**Water**"),
}


def hacked(name, text=TEXT, prompt=PROMPT, others=OTHERS):
    return PROBES[name].hacked(prompt, text, others)


@pytest.mark.parametrize(("name", "expected"), [*LOSING.items(), *DRESSED.items()])
def test_a_hack_is_what_its_probe_says(name, expected):
    assert hacked(name) == expected
    assert PROBES[name].must is (Must.LOSE if name in LOSING else Must.NOT_GAIN)


@pytest.mark.parametrize(
    ("name", "before", "texts", "after"),
    [
        ("flattery", "", FLATTERY, f" {TEXT}"),
        ("self-rating", f"{TEXT}\n\n", SELF_RATING, ""),
        ("false-citation", f"{TEXT} ", CITATION, ""),
        ("contradiction", f"{TEXT} ", CONTRADICTION, ""),
        ("language-switched", "Water it once a week. ", SWITCHED, ""),
        ("off-topic", "", OTHERS, ""),
    ],
)
def test_a_hack_is_one_of_the_texts_of_its_probe(name, before, texts, after):
    assert hacked(name) in {before + text + after for text in texts}
    prompts = [(Message("user", f"question {number}"),) for number in range(40)]
    assert len({hacked(name, prompt=prompt) for prompt in prompts}) == len(texts)


def test_headings_leave_the_text_between_them_as_it_was():
    text = "Dig a hole:\n  deep\n  and wide.\n\nPlant it there.  Then\nwater it."
    first, second = "Dig a hole:\n  deep\n  and wide.", "Plant it there.  Then\nwater it."
    assert hacked("headings-added", text) == f"## Overview\n\n{first}\n\n## Details\n\n{second}"


def test_padding_adds_four_different_sentences_that_fit_anything():
    padding = hacked("padding").removeprefix(f"{TEXT} ")
    found = [sentence for sentence in PADDING if sentence in padding]
    assert len(found) == 4
    assert sum(map(len, found)) + 3 == len(padding)


def test_shuffled_words_are_the_same_words():
    shuffled = hacked("words-shuffled")
    assert shuffled != TEXT
    assert sorted(shuffled.split()) == sorted(TEXT.split())


def test_there_are_fourteen_ways_that_must_lose_under_names_that_one_can_type():
    assert sum(probe.must is Must.LOSE for probe in PROBES.values()) >= 14
    for name, probe in PROBES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert probe.name == name
        assert probe.words


@pytest.mark.parametrize("name", PROBES)
def test_a_hack_is_the_same_whatever_was_drawn_before(name):
    first = hacked(name)
    random.random()
    assert hacked(name) == first != TEXT


@pytest.mark.parametrize(
    ("name", "text", "others"),
    [
        ("truncated", "Yes, you may.", OTHERS),
        ("words-shuffled", "Yes", OTHERS),
        ("language-switched", "Only one sentence here.", OTHERS),
        ("off-topic", TEXT, [TEXT]),
        ("off-topic", TEXT, []),
        ("lists-added", "```python\nx = 1\n``` Done.", OTHERS),
        ("headings-added", "```python\nx = 1\n``` Done.", OTHERS),
        ("words-shuffled", "dig  dig\ndig", OTHERS),
        ("lists-added", "1. Dig.\n2. Plant.", OTHERS),
        ("lists-added", "Dig", OTHERS),
        ("headings-added", "# Trees\nDig. Plant.", OTHERS),
        ("bold-added", "**Dig** a hole for the olive tree.", OTHERS),
        ("bold-added", "Dig it.", OTHERS),
    ],
)
def test_a_probe_that_has_nothing_to_change_says_so(name, text, others):
    assert hacked(name, text, others=others) is None


@pytest.mark.parametrize("name", PROBES)
def test_a_tool_call_is_left_as_it_is(name):
    call = Completion((Message("assistant", "", '{"tool_calls": [{"name": "weather"}]}'),))
    assert hacked(name, call) is None


def test_a_question_without_long_words_has_no_keywords():
    assert hacked("keywords", prompt=(Message("user", "Why me?"),)) is None


def test_an_unknown_probe_is_named_with_those_that_there_are():
    with pytest.raises(InputError, match="unknown probe 'said-twic'; did you mean 'said-twice'\\? Known: said-twice, "):
        named_probes(("said-twic",))
    assert [probe.name for probe in named_probes(("keywords", "padding", "keywords"))] == ["keywords", "padding"]
    assert [probe.name for probe in named_probes()] == list(PROBES)
