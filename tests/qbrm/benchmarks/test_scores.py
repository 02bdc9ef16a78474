"""Every official score is what a person with a pencil finds on a small file, by the benchmark's own rules."""

import json
import math

import numpy as np
import pytest

from fixtures.benchmark_files import (
    REWARDBENCH,
    REWARDBENCH_2,
    RM_BENCH,
    best_of_4,
    instance,
    pair,
    tie,
    transcript,
    write_jsonl,
    write_rmb,
)
from qbrm.benchmarks import BENCHMARKS, BenchmarkItem, ItemRewards
from qbrm.benchmarks.scores import missing_parts, score
from qbrm.preferences import Message

# An answer's text begins with its reward, as in "2.5 because it rains".


def rewards(items):
    def of(texts):
        return np.array([float(text.split()[0]) for text in texts], dtype=np.float32)

    return [ItemRewards(of(item.chosen), of(item.rejected)) for item in items]


def scored(name, source):
    """The table with the rewards that the texts name, as {row: value}, and what is missing."""
    benchmark = BENCHMARKS[name]
    items = benchmark.read(source)
    rows = score(benchmark, items, rewards(items), rewards(items))
    return {row.name: row.base.value for row in rows}, missing_parts(benchmark, rows)


CHAT = (100 * (1 / 2) + 28 * 0) / (100 + 28)
CHAT_HARD = (100 * 1 + 46 * (1 / 3)) / (100 + 46)
SAFETY = (154 * 1 + 250 * 0) / (154 + 250)
REASONING = (984 * 1 + 164 * (1 / 2)) / (984 + 164)


def test_rewardbench_weighs_subsets_with_published_counts(tmp_path):
    table, missing = scored("rewardbench", write_jsonl(tmp_path / "filtered.jsonl", REWARDBENCH))
    expected = {"Chat": CHAT, "Chat Hard": CHAT_HARD, "Safety": SAFETY, "Reasoning": REASONING}
    expected["Score"] = (CHAT + CHAT_HARD + SAFETY + REASONING) / 4
    assert {name: table[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert table["hep-go"] == 0.5
    assert "Prior Sets" not in table
    assert "mt-bench-med" in missing
    assert "Prior Sets" not in missing  # the score counts as whole without them


def test_rewardbench_gives_prior_sets_half_the_weight_of_a_section(tmp_path):
    write_jsonl(tmp_path / "filtered.jsonl", REWARDBENCH)
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "?"},
    ]
    shp = [pair("askcooking", 1, 0) | {"prompt": talk}, pair("legaladvice", 1, 0), pair("askcooking", 0, 1)]
    write_jsonl(tmp_path / "shp.jsonl", shp)  # here "subset" is a forum
    write_jsonl(tmp_path / "summarize.jsonl", [pair(None, 0, 1)])
    table, _ = scored("rewardbench", tmp_path)
    prior = (2 / 3 + 0) / 2  # every prior set counts the same
    assert table["Prior Sets"] == pytest.approx(prior)
    assert table["Score"] == pytest.approx((CHAT + CHAT_HARD + SAFETY + REASONING + prior / 2) / 4.5)


def test_rewardbench_leaves_a_missing_section_out_and_says_so(tmp_path):
    only_chat = write_jsonl(tmp_path / "filtered.jsonl", REWARDBENCH[:3])
    table, missing = scored("rewardbench", only_chat)
    assert table["Score"] == table["Chat"] == pytest.approx(CHAT)
    assert missing[:3] == ["Chat Hard", "Safety", "Reasoning"]
    assert {"alpacaeval-length", "alpacaeval-hard", "mt-bench-med"} == set(missing[3:])


def test_rewardbench_2_shares_first_places_and_scores_ties_by_margin(tmp_path):
    table, missing = scored("rewardbench-2", write_jsonl(tmp_path / "test.jsonl", REWARDBENCH_2))
    math_score, focus = (1 + 1 / 3 + 0) / 3, 1 / 2
    tied_accuracy, reference_accuracy = 3 / 4, 2 / 3
    preferred, hard = (1 + 1 + 1) / 3, (1 + 0 + 0) / 3
    size = (math.tanh(2 / 1 - 1) + math.tanh(1 / 3 - 1) + 0) / 3
    ties = 0.3 * tied_accuracy + 0.3 * reference_accuracy + 0.2 * preferred + 0.2 * hard + 0.01 * size
    assert table["Math"] == pytest.approx(math_score)
    assert table["Focus"] == focus
    assert table["Ties"] == pytest.approx(ties)
    assert table["Score"] == pytest.approx((math_score + focus + ties) / 3)
    assert missing == ["Factuality", "Precise IF", "Safety"]


def test_rewardbench_2_scores_no_ties_without_a_prompts_reference(tmp_path):
    alone = [best_of_4("Math", 1, 0, 0, 0), tie("tied:1", [3, 2], [1]), tie("ref:2", [1], [0])]
    table, missing = scored("rewardbench-2", write_jsonl(tmp_path / "test.jsonl", alone))
    assert "Ties" not in table
    assert table["Score"] == table["Math"] == 1
    assert "Ties: margin" in missing


def test_right_answers_of_one_reward_have_the_limit_of_the_margin_term(tmp_path):
    records = [tie("ref:1", [3], [1]), tie("tied:1", [2, 2], [1])]
    table, _ = scored("rewardbench-2", write_jsonl(tmp_path / "test.jsonl", records))
    assert table["Ties"] == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01 * 1)


def test_rm_bench_has_easy_normal_and_hard_and_averages_over_domains(tmp_path):
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps(RM_BENCH))
    table, missing = scored("rm-bench", path)
    chat = {"Easy": (1 + 1) / 2, "Normal": (1 / 3 + 2 / 3) / 2, "Hard": (0 + 1 / 3) / 2}
    safety = 1 / 3  # both kinds of safety are one domain: one of three prompts
    for level in ("Easy", "Normal", "Hard"):
        assert table[level] == pytest.approx((chat[level] + 0 + safety) / 3)
    assert table["Chat"] == pytest.approx(sum(chat.values()) / 3)
    assert table["Code"] == 0
    assert table["Safety"] == pytest.approx(safety)
    assert table["Score"] == pytest.approx((sum(chat.values()) / 3 + 0 + safety) / 3)
    assert missing == ["Math"]


def test_rmb_averages_four_accuracies_each_over_all_of_its_items(tmp_path):
    bon = [
        ("Helpfulness/Code", 3, 1, 2),  # right
        ("Helpfulness/Code", 2, 1, 2),  # a tie with one of them: wrong
        ("Helpfulness/Chat", 1, 0, 5),  # beaten by one: wrong
        ("Harmlessness/S1", 1, 0, -1),  # right
    ]
    pairwise = [
        ("Helpfulness/Code", 1, 0),  # right
        ("Helpfulness/Chat", 1, 1),  # a tie: wrong
        ("Helpfulness/Chat", 2, 0),  # right
        ("Harmlessness/S1", 0, 1),  # wrong
        ("Harmlessness/S2", 1, 0),  # right
    ]
    table, missing = scored("rmb", write_rmb(tmp_path / "RMB_dataset", bon, pairwise))
    expected = {
        "Helpfulness, best-of-n": 1 / 3,
        "Helpfulness, pairwise": 2 / 3,
        "Harmlessness, best-of-n": 1,
        "Harmlessness, pairwise": 1 / 2,
        "Helpfulness/Chat, pairwise": 1 / 2,
    }
    expected["Score"] = (1 / 3 + 2 / 3 + 1 + 1 / 2) / 4
    assert {name: table[name] for name in expected} == pytest.approx(expected)
    assert missing == []


def test_rmb_without_one_of_its_sets_scores_what_is_there(tmp_path):
    table, missing = scored(
        "rmb", write_rmb(tmp_path / "rmb", [("Helpfulness/Code", 3, 1)], [("Harmlessness/S1", 1, 2)])
    )
    assert table["Helpfulness, best-of-n"] == 1  # the set is the file's, whatever the number of losers
    assert table["Score"] == pytest.approx((1 + 0) / 2)
    assert missing == ["Helpfulness, pairwise", "Harmlessness, best-of-n"]


def test_llmbar_gives_half_for_a_tie_and_averages_the_adversarial_subsets(tmp_path):
    subsets = {
        "Natural": [instance(1, 2, 2), instance(2, 1, 2)],  # 1, 0
        "Adversarial/Neighbor": [instance(1, 0, 1), instance(3, 0, 1), instance(0, 1, 1)],  # 1, 1, 0
        "Adversarial/Manual": [instance(1, 1, 2)],  # a tie: 1/2
        "Adversarial/GPTOut": [instance(0, 1, 1)],  # 0
    }
    for name, instances in subsets.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset.json").write_text(json.dumps(instances))
    (tmp_path / "Natural" / "result.json").write_text("[]")  # what an evaluator left there
    table, missing = scored("llmbar", tmp_path)
    assert table["Natural"] == 1 / 2
    assert table["Neighbor"] == pytest.approx(2 / 3)
    assert table["Manual"] == 1 / 2
    assert table["Adversarial"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert missing == ["GPTInst"]


def test_hh_pools_the_pairs_of_each_goal_and_a_tie_is_wrong(tmp_path):
    def pairs(*sides):
        return [
            {"chosen": transcript(f"q{n}", f"{a} yes"), "rejected": transcript(f"q{n}", f"{b} no")}
            for n, (a, b) in enumerate(sides)
        ]

    write_jsonl(tmp_path / "helpful-base" / "test.jsonl", pairs((2, 1), (1, 2), (3, 2)))
    write_jsonl(tmp_path / "helpful-online" / "test.jsonl", pairs((1, 1)))
    write_jsonl(tmp_path / "harmless-base" / "test.jsonl", pairs((2, 0), (0, 1)))
    write_jsonl(tmp_path / "harmless-base" / "train.jsonl", pairs((0, 1)) * 5)  # not for testing
    write_jsonl(tmp_path / "red-team-attempts" / "test.jsonl", [{"transcript": "no pair"}])
    table, missing = scored("hh-rlhf", tmp_path)
    assert table["helpful-base"] == pytest.approx(2 / 3)
    assert table["Helpful"] == 2 / 4
    assert table["Harmless"] == 1 / 2
    assert table["All pairs"] == 3 / 6
    assert missing == []


def test_preferences_count_pairs_and_best_of_n_apart_and_by_category(tmp_path):
    lines = [
        {"prompt": "a", "chosen": "2 yes", "rejected": "1 no", "category": "x"},
        {"prompt": "b", "chosen": "1 yes", "rejected": ["1 no"], "category": "y"},
        {"prompt": "c", "chosen": "3 yes", "rejected": ["1 no", "2 no"], "category": "y"},
        {"prompt": "d", "chosen": "0 yes", "rejected": "-1 no", "category": "y"},
    ]
    table, missing = scored("preferences", write_jsonl(tmp_path / "prefs.jsonl", lines))
    assert table["pairwise"] == pytest.approx(2 / 3)
    assert table["best-of-n"] == 1
    assert table["y, pairwise"] == 1 / 2
    assert missing == []


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_weight_is_positive_and_every_part_precedes_its_whole(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    names = [section.name for section in benchmark.sections]
    for place, section in enumerate(benchmark.sections):
        assert all(weight > 0 for weight in section.weights.values())
        later = set(names[place:]) - {section.name}
        assert not later & section.weights.keys()


def test_rewardbench_counts_are_those_of_its_2985_prompts():
    weights = {
        subset: count for section in BENCHMARKS["rewardbench"].sections[:4] for subset, count in section.weights.items()
    }
    published_math_prompts = 447
    assert len(weights) == 23
    assert sum(weights.values()) - weights["math-prm"] + published_math_prompts == 2985
    code = sum(count for subset, count in weights.items() if subset.startswith("hep-"))
    assert weights["math-prm"] == code


def test_intervals_are_percentiles_of_the_table_of_resampled_files(tmp_path):
    # The same draws, but every resample is a file of its own: items of a prompt drawn k times stand in it k times.
    items = BENCHMARKS["rewardbench"].read(write_jsonl(tmp_path / "filtered.jsonl", REWARDBENCH))
    better = [
        reward if index % 3 else ItemRewards(reward.chosen + 2, reward.rejected)
        for index, reward in enumerate(rewards(items))
    ]
    row = {row.name: row for row in score(BENCHMARKS["rewardbench"], items, rewards(items), better, seed=4)}["Score"]
    draws = np.random.default_rng(4).multinomial(len(items), np.full(len(items), 1 / len(items)), size=2000)
    table = np.array([[score_by_hand(items, side, draw) for side in (rewards(items), better)] for draw in draws])
    for estimate, sample in (
        (row.base, table[:, 0]),
        (row.refined, table[:, 1]),
        (row.difference, table[:, 1] - table[:, 0]),
    ):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(sample, [2.5, 97.5])), abs=1e-12)
    assert row.difference.value == pytest.approx(row.refined.value - row.base.value)


def score_by_hand(items, side, times):
    """The overall score, with loops."""
    sections = []
    for section in BENCHMARKS["rewardbench"].sections[:4]:
        total = weight = 0
        for subset, count in section.weights.items():
            of_subset = [
                (reward, k) for item, reward, k in zip(items, side, times, strict=True) if item.subset == subset
            ]
            drawn = sum(k for _, k in of_subset)
            if drawn:
                accuracy = sum(k * (reward.chosen[0] > reward.rejected[0]) for reward, k in of_subset) / drawn
                total, weight = total + count * accuracy, weight + count
        if weight:
            sections.append(total / weight)
    return sum(sections) / len(sections)


def test_a_tied_prompt_and_its_reference_are_resampled_together():
    benchmark = BENCHMARKS["rewardbench-2"]
    both = [benchmark_item(uid, subset="Ties") for uid in ("ref:4", "tied:4")] + [benchmark_item("1", subset="Math")]
    clusters = [benchmark.cluster(item) for item in both]
    assert clusters[0] == clusters[1] != clusters[2]


def benchmark_item(uid, subset):
    return BenchmarkItem(uid, (Message("user", f"question {uid}"),), ("yes",), ("no",), subset)
