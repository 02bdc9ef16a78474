"""Best-of-n with gold: its parts by hand, the whole of it on made-up candidates, and what is refused."""

import gzip
import json
import re
import runpy
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.fake_encoder import FakeEncoder, vector
from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm.fitting.committee import committee
from qbrm.preferences import Message
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.sources import sampled
from qbrm_lab.methods.base import Fitted
from qbrm_lab.results import parsed
from qbrm_lab.results.study_rows import BestOfNRow, BestOfNSummary
from qbrm_lab.studies.best_of_n.candidates import read_candidate_file
from qbrm_lab.studies.best_of_n.gold_pairs import gold_pairs
from qbrm_lab.studies.best_of_n.one_seed import SeedStudy
from qbrm_lab.studies.best_of_n.page import Run, best_of_n_markdown
from qbrm_lab.studies.best_of_n.settings import Asked, prepare
from qbrm_lab.studies.best_of_n.study import study_best_of_n
from qbrm_lab.studies.best_of_n.worth import JudgedPool, SeedWorth, rows_over_seeds, sizes_of, worth_of
from qbrm_lab.studies.json_files import read_json

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("base:length", "base:worst", "sqrbm", "residual:members=2,worst")


def pool(gold, first=0, name="p"):
    return JudgedPool(name, torch.arange(first, first + len(gold)), np.array(gold))


def write_candidates(path, prompts=12, most=5):
    """Candidates whose gold is the fake encoder's taste, cut to 0 and 1; some prompts have fewer."""
    lines = []
    for number in range(prompts):
        prompt, count = f"task {number}", most - number % 2
        texts = [f"try {i} at {number}" + " and" * (i * number % 7) for i in range(count)]
        gold = [float(vector((Message("user", prompt),), text)[:2].sum() > 0) for text in texts]
        candidates = [{"response": t, "policy": "p", "gold": g} for t, g in zip(texts, gold, strict=True)]
        lines.append(json.dumps({"prompt": prompt, "candidates": candidates}))
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_sizes_are_powers_of_two_and_all():
    assert sizes_of(11) == (1, 2, 4, 8, 11)
    assert sizes_of(8) == (1, 2, 4, 8)
    assert sizes_of(2) == (1, 2)


def test_a_choice_is_worth_its_mean_over_all_draws_and_short_pools_offer_all_they_have():
    generator = np.random.default_rng(0)
    gold, reward = generator.random(5), generator.normal(size=8)
    found = worth_of([pool(gold), pool(gold[:3], first=5)], reward, (1, 2, 5))
    for row, (size, first) in enumerate(((5, 0), (3, 5))):
        for column, n in enumerate((1, 2, min(5, size))):
            draws = [max(draw, key=lambda i: reward[first + i]) for draw in combinations(range(size), n)]
            assert found[row, column] == pytest.approx(np.mean([gold[i] for i in draws]))


def test_pairs_of_gold_are_those_that_differ_by_half_and_in_their_text():
    pools = [pool([0.9, 0.4, 0.39, 0.1]), JudgedPool("q", torch.tensor([4, 4]), np.array([1.0, 0.0]))]
    found = gold_pairs(pools, torch.zeros(5, 1), torch.zeros(5))
    assert list(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3)]


def test_means_over_seeds_resample_prompts_and_pair_with_the_base():
    generator = np.random.default_rng(1)
    level = generator.normal(size=(300, 1))
    prompts = [f"p{number}" for number in range(300)]
    base = level + 0.01 * generator.normal(size=(300, 1))
    worth = SeedWorth(prompts, {"base": base, "better": level + 0.1})
    same, better = rows_over_seeds("f", (4,), [worth, worth])
    assert (same.over_base, same.over_base_low, same.over_base_high) == (0, 0, 0)
    assert better.seed is None
    assert better.gold == pytest.approx(float(level.mean()) + 0.1)
    # The seeds share their prompts: twice the same is no more evidence, and pairing takes the prompts' level away.
    assert better.ci_high - better.ci_low == pytest.approx(2 * 1.96 * level.std() / 300**0.5, rel=0.15)
    assert 0 < better.over_base_high - better.over_base_low < 0.01


FAULTS = {
    "no gold": ('{"prompt": "a", "candidates": [{"response": "x", "gold": 1}, {"response": "y"}]}', "is missing"),
    "NaN": ('{"prompt": "a", "candidates": [{"response": "x", "gold": 1}, {"response": "y", "gold": NaN}]}', "is NaN"),
    "text": ('{"prompt": "a", "candidates": [{"response": "x", "gold": 1}, {"response": "y", "gold": "1"}]}', '"1"'),
    "infinite": (
        '{"prompt": "a", "candidates": [{"response": "x", "gold": 1}, {"response": "y", "gold": Infinity}]}',
        "expected a finite number.",
    ),
    "one": (
        '{"prompt": "a", "candidates": [{"response": "x", "gold": 1}]}',
        'c.jsonl, line 2: "candidates" has one candidate; expected two or more objects with "response" and "gold".',
    ),
    "none": (
        '{"prompt": "a", "candidates": []}',
        '"candidates" is empty; expected two or more objects with "response" and "gold".',
    ),
    "no prompt": (
        '{"candidates": [{"response": "x", "gold": 1}, {"response": "y", "gold": 1}]}',
        '"prompt" is missing',
    ),
    "no response": ('{"prompt": "a", "candidates": [{"gold": 1}, {"gold": 1}]}', "response"),
    "no JSON": ("{", "line 2"),
}


@pytest.mark.parametrize(("line", "message"), FAULTS.values(), ids=FAULTS)
def test_a_bad_line_is_named_in_one_line(line, message, tmp_path):
    good = '{"prompt": "a", "candidates": [{"response": "x", "gold": 1}, {"response": "", "gold": 0.5}]}'
    (tmp_path / "c.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError) as refused:
        read_candidate_file(tmp_path / "c.jsonl")
    assert message in str(refused.value)
    assert "line 2" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_sample_is_of_so_many_prompts_whatever_their_order(tmp_path):
    path = write_candidates(tmp_path / "c.jsonl.gz", prompts=20)
    whole = read_candidate_file(path).preferences
    few = sampled(whole, 7, seed=3)
    assert len(few.prompt_ids) == 7
    turned = replace(whole, preferences=whole.preferences[::-1])
    assert set(sampled(turned, 7, seed=3).prompt_ids) == set(few.prompt_ids)
    assert sampled(whole, 20, seed=3) is whole is sampled(whole, None, seed=3)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Settings of a small study, with two files of candidates."""
    folder = tmp_path_factory.mktemp("study")
    train = write_preferences(folder / "prefs.jsonl", 0, 40)
    files = write_candidates(folder / "some.jsonl.gz"), write_candidates(folder / "more.jsonl", 16, 9)
    settings = ComparisonSettings(
        train, folder / "out", reward_model="fake", methods=METHODS, seeds=2, epochs=1, command="qbrm study best-of-n"
    )
    return settings, Asked(files, prompts=(12, 14))


@pytest.fixture(scope="module")
def done(asked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARD_MODELS, "fake", FakeEncoder)
        page = study_best_of_n(*asked, Reporter.silent())
    return page, json.loads((asked[0].out / "best_of_n.json").read_text())


def test_rows_have_what_the_interface_says(done):
    assert set(done[1]) == {"schema", "rows"}
    assert done[1]["schema"] == 1
    assert {tuple(row) for row in done[1]["rows"]} == {tuple(BestOfNRow.__dataclass_fields__)}
    assert {(row["file"], row["n"]) for row in done[1]["rows"]} == {
        *(("some.jsonl.gz", n) for n in (1, 2, 4, 5)),
        *(("more.jsonl", n) for n in (1, 2, 4, 8, 9)),
    }
    assert {row["seed"] for row in done[1]["rows"]} == {0, 1}


def test_every_method_chooses_for_every_file_and_gold_trains_apart(done):
    plain = {"base:length", "sqrbm", "sqrbm:mean", "sqrbm:pessimistic", "sqrbm:lcb", "residual:members=2,worst"}
    expected = {"base", "longest", "random", "oracle", "base:worst", *plain, *(f"{name}@gold" for name in plain)}
    for name in ("some.jsonl.gz", "more.jsonl"):
        assert {row["method"] for row in done[1]["rows"] if row["file"] == name} == expected


def test_one_candidate_is_worth_the_mean_and_the_oracle_is_the_ceiling(done):
    rows = {(row["file"], row["seed"], row["method"], row["n"]): row["gold"] for row in done[1]["rows"]}
    for (file, seed, method, n), gold in rows.items():
        assert rows[file, seed, "random", n] == pytest.approx(rows[file, seed, method, 1])
        assert gold <= rows[file, seed, "oracle", n] + 1e-12
    base = [row for row in done[1]["rows"] if row["method"] == "base"]
    assert all(row["over_base"] == row["over_base_low"] == row["over_base_high"] == 0 for row in base)


def test_a_finished_study_is_read_and_new_gold_is_measured_anew(asked, done, monkeypatch, tmp_path):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    settings, files = asked
    text, rows = done[0].read_text(), (settings.out / "best_of_n.json").read_bytes()
    for name in ("_measured", "_references"):
        monkeypatch.setattr(SeedStudy, name, lambda *given: pytest.fail("work was done again"))
    assert study_best_of_n(settings, files, Reporter.silent()).read_text() == text
    assert (settings.out / "best_of_n.json").read_bytes() == rows
    changed = files.candidates[0].with_name("changed") / "some.jsonl.gz"
    changed.parent.mkdir()
    changed.write_bytes(gzip.compress(gzip.decompress(files.candidates[0].read_bytes()).replace(b"0.0", b"0.3")))
    with pytest.raises(pytest.fail.Exception):
        study_best_of_n(settings, replace(files, candidates=(changed, files.candidates[1])), Reporter.silent())


def test_the_page_tells_all_methods_and_shows_the_pictures(asked, done):
    text = done[0].read_text()
    for row in done[1]["rows"]:
        assert f"| {row['method']} |" in text
    for name in ("some", "more"):
        assert f"(best-of-n-{name}.png)" in text
        assert (asked[0].out / f"best-of-n-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "14 of 16 prompts" in text


def test_the_documents_have_a_section_and_plots_for_every_run(asked, done, tmp_path):
    other = shutil.copytree(asked[0].out, tmp_path / "other", ignore=shutil.ignore_patterns("features", "training"))
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "update_best_of_n.py"))
    (tmp_path / "docs" / "best-of-n" / "of-yesterday").mkdir(parents=True)
    script["update"]([asked[0].out, other], tmp_path / "docs")
    text = (tmp_path / "docs" / "best-of-n.md").read_text()
    assert text.count("\n## fake@") == 2
    shown = set(re.findall(r"\]\((best-of-n/[^)]+)\)", text))
    assert {str(path.relative_to(tmp_path / "docs")) for path in (tmp_path / "docs").rglob("*.png")} == shown
    assert len(shown) == 4
    assert not (tmp_path / "docs" / "best-of-n" / "of-yesterday").exists()


def test_no_member_learns_from_the_pairs_that_choose_beta_and_z(asked, done, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    tasks = []

    class Spy:
        name = "spy"

        def fit(self, task):
            tasks.append(task)
            return Fitted(lambda features: features.reward)

    study = SeedStudy(prepare(*asked, Reporter.silent()), 0, Reporter.silent())
    for source in study._sources():
        list(study._measured(source, Spy()))
    assert len(tasks) == 3
    for task in tasks:
        assert {id(fold.validation) for fold in committee(task.fold, 5)} == {id(task.validation)}


def test_the_page_says_of_old_runs_alone_that_members_had_seen_what_validates_them(asked, done):
    summary = read_json(asked[0].out / "summary.json", BestOfNSummary)
    old = json.loads((asked[0].out / "summary.json").read_text())
    del old["version"]
    for run, times in ((summary, 0), (parsed(old, BestOfNSummary), 1)):
        assert best_of_n_markdown([Run(run)]).count("had trained four of the five") == times


def test_a_reward_model_that_came_trained_trains_no_others(asked, tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "trained", lambda: FakeEncoder(reward=1, name="trained"))
    settings, files = asked
    settings = replace(settings, reward_model="trained", out=tmp_path, seeds=1, methods=("base:worst", "sqrbm"))
    study_best_of_n(settings, replace(files, candidates=files.candidates[:1], prompts=()), Reporter.silent())
    rows = json.loads((tmp_path / "best_of_n.json").read_text())["rows"]
    best = {row["method"]: row["gold"] for row in rows if row["n"] == 5}
    assert "base:worst" not in best
    # Its reward is the very taste that gold was made of.
    assert best["base"] == best["oracle"] > best["random"]


def test_gold_that_never_differs_trains_nothing(tmp_path, monkeypatch, asked):
    monkeypatch.setitem(REWARD_MODELS, "trained", lambda: FakeEncoder(reward=1, name="trained"))
    path = write_candidates(tmp_path / "level.jsonl")
    path.write_text(path.read_text().replace('"gold": 1.0', '"gold": 0.2'))
    settings = replace(asked[0], reward_model="trained", out=tmp_path / "out", seeds=1, methods=("sqrbm",))
    text = study_best_of_n(settings, Asked((path,)), Reporter.silent()).read_text()
    assert "@gold |" not in text
    assert "0 pairs of gold" in text


def test_what_cannot_be_studied_is_refused_in_one_line(asked, qbrm_command, tmp_path):
    settings, files = asked
    given = ("--train", settings.train, "--out", tmp_path / "out")
    candidates = ("--candidates", files.candidates[0])
    assert "no --candidates" in qbrm_command("study", "best-of-n", *given).refused()
    assert "is no file" in qbrm_command("study", "best-of-n", *given, "--candidates", tmp_path / "no.jsonl").refused()
    many = qbrm_command("study", "best-of-n", *given, *candidates, "--prompts", "3,4").refused()
    assert "2 numbers for 1 files" in many
    assert "'x'" in qbrm_command("study", "best-of-n", *given, *candidates, "--prompts", "x").refused()
    elsewhere = qbrm_command("study", "keep", *given, *candidates).refused()
    assert "expected it with reward-models, best-of-n, candidates only" in elsewhere
    few = qbrm_command("study", "best-of-n", *given, *candidates, "--prompts", "3").refused()
    assert "has 3 prompts; expected at least 4" in few
