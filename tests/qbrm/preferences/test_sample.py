"""The sample set is what the README says of it, and no shortcut finds its best answers."""

import json
from collections import Counter
from pathlib import Path

import pytest

from qbrm.preferences import read_preferences, sample_source

# The ways of being wrong that people know, and how many answers of each there are at least.
FLAWS = {
    "false fact": 50,
    "ignores a constraint": 40,
    "wrong reasoning": 40,
    "incomplete": 20,
    "vague": 20,
    "goes along with the risky": 20,
    "padding": 20,
    "unkind": 10,
    "refuses the harmless": 20,
    "overconfident": 10,
    "off topic": 10,
}


def load(folder):
    root = Path(sample_source()) / folder
    return {
        path.relative_to(root): json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.json"))
    }


BON_FILES, PAIRWISE_FILES = load("BoN_set"), load("Pairwise_set")
BON = [item for items in BON_FILES.values() for item in items]
PAIRWISE = [item for items in PAIRWISE_FILES.values() for item in items]


def prompt_of(item):
    return tuple((message["role"], message["content"]) for message in item["conversation_input"])


def answers_of(item):
    return [item["bon_best"]["answer"], *(loser["answer"] for loser in item["loser_list"])]


def test_sample_is_large_and_broad_enough():
    assert len({prompt_of(item) for item in BON}) >= 120
    assert len({item["category_path"] for item in BON}) >= 10


@pytest.mark.parametrize("domain", ["Helpfulness", "Harmlessness"])
def test_sample_covers_both_domains(domain):
    of_domain = [item for item in BON if item["category_path"].startswith(f"BoN_set/{domain}/")]
    assert len(of_domain) >= 30
    assert len({item["category_path"] for item in of_domain}) >= 4


def test_category_paths_are_where_the_files_are():
    for folder, files in (("BoN_set", BON_FILES), ("Pairwise_set", PAIRWISE_FILES)):
        for path, items in files.items():
            assert {item["category_path"] for item in items} == {f"{folder}/{path.with_suffix('').as_posix()}"}


def test_every_item_has_one_best_and_two_or_more_different_worse_answers():
    for item in BON:
        answers = answers_of(item)
        assert len(answers) >= 3, item["bon_uid"]
        assert len(set(answers)) == len(answers), item["bon_uid"]
        assert all(answer == answer.strip() and answer for answer in answers), item["bon_uid"]


def test_prompts_and_identifiers_are_unique():
    prompts = Counter(prompt_of(item) for item in BON)
    assert [prompt for prompt, count in prompts.items() if count > 1] == []
    for items, key in ((BON, "bon_uid"), (PAIRWISE, "pair_uid")):
        uids = Counter(item[key] for item in items)
        assert [uid for uid, count in uids.items() if count > 1] == []


def test_no_answer_serves_two_prompts():
    answers = Counter(answer for item in BON for answer in answers_of(item))
    assert [answer for answer, count in answers.items() if count > 1] == []


def test_pairs_are_the_best_against_each_worse_answer():
    def pairs(items, best, losers):
        return Counter(
            (prompt_of(item), item["category_path"].partition("/")[2], item[best]["answer"], loser["answer"])
            for item in items
            for loser in losers(item)
        )

    assert PAIRWISE_FILES.keys() == BON_FILES.keys()
    assert pairs(PAIRWISE, "chosen", lambda item: [item["reject"]]) == pairs(
        BON, "bon_best", lambda item: item["loser_list"]
    )


def test_worse_answers_are_wrong_in_known_ways_and_best_ones_have_no_flaw():
    flaws = Counter(loser["flaw"] for item in BON for loser in item["loser_list"])
    assert flaws.keys() == FLAWS.keys()
    assert all(flaws[flaw] >= least for flaw, least in FLAWS.items())
    assert not any("flaw" in item["bon_best"] for item in BON)


def test_the_longest_answer_is_the_best_about_as_often_as_chance_says(record_property):
    hits = [len(answers_of(item)[0]) > max(map(len, answers_of(item)[1:])) for item in BON]
    share = sum(hits) / len(hits)
    record_property("longest is best", share)
    print(f"the longest answer is the best in {share:.1%} of {len(hits)} items")
    assert 0.25 <= share <= 0.45


def test_the_shortest_answer_is_not_the_best_either():
    hits = [len(answers_of(item)[0]) < min(map(len, answers_of(item)[1:])) for item in BON]
    assert sum(hits) / len(hits) <= 0.45


def test_the_longer_answer_is_the_chosen_one_in_about_half_of_the_pairs(record_property):
    hits = [len(item["chosen"]["answer"]) > len(item["reject"]["answer"]) for item in PAIRWISE]
    share = sum(hits) / len(hits)
    record_property("longer is chosen", share)
    print(f"the longer answer is the chosen one in {share:.1%} of {len(hits)} pairs")
    assert 0.40 <= share <= 0.60


def test_lengths_vary():
    lengths = sorted(len(answer) for item in BON for answer in answers_of(item))
    assert lengths[-len(lengths) // 10] >= 3 * lengths[len(lengths) // 10]


def test_place_of_a_worse_answer_tells_nothing_about_its_length():
    """Were the losers sorted, by flaw or by length, the first would stand out."""
    first = [len(item["loser_list"][0]["answer"]) > len(item["loser_list"][1]["answer"]) for item in BON]
    assert 0.35 <= sum(first) / len(first) <= 0.65


def test_the_reader_reads_what_the_files_hold():
    preferences = read_preferences(sample_source())
    assert len(preferences) == len(BON) + len(PAIRWISE)
    assert len(preferences.prompt_ids) == len({prompt_of(item) for item in BON})
    assert all(category.split("/")[0] in ("Helpfulness", "Harmlessness") for category in preferences.categories)
