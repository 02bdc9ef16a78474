"""The study of candidates: its rivals by hand, and the whole of it on small files."""

import json
from dataclasses import replace

import pytest
import torch

from fixtures.candidate_sets import DIM, candidates, machine, without_couplings, write_candidates
from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm.cli.console import Reporter
from qbrm.energies.candidates import CandidateMachine
from qbrm.errors import InputError
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.methods.candidates import LinearChoice, Smoothed, fit_rivals, pointwise, with_centroid
from qbrm_lab.studies import candidates as study
from qbrm_lab.studies.candidates import study_candidates
from qbrm_lab.studies.candidates_page import METHODS

pytestmark = pytest.mark.usefixtures("one_thread")

SETS = [candidates(3 + number % 3, seed=number) for number in range(40)]
CHOSEN = [torch.eye(of.size, dtype=torch.float64)[int((of.reward + of.length).argmax())] for of in SETS]


@pytest.fixture(scope="module")
def units():
    made = CandidateMachine(DIM)
    made.standardise(SETS)
    return made


def test_rewards_smoothed_over_candidates_are_means_weighted_by_a_normal_kernel(units):
    sets = units.standard([SETS[0]])
    weight = [[float(torch.exp(-sets.distance[0, i, j] / (2 * 0.5**2))) for j in range(3)] for i in range(3)]
    by_hand = [sum(w * float(r) for w, r in zip(row, sets.reward[0], strict=True)) / sum(row) for row in weight]
    assert Smoothed(0.5)(sets)[0, :, 0].tolist() == pytest.approx(by_hand)
    torch.testing.assert_close(Smoothed(1e-3)(sets), pointwise(sets))
    assert torch.equal(Smoothed(0)(sets), pointwise(sets))


def test_closeness_to_the_centroid_is_less_the_squared_distance_but_for_a_constant(units):
    sets = units.standard([SETS[2]])
    x = SETS[2].embedding @ units.basis
    distance = (x - x.mean(0)).square().sum(1) / x.shape[1]
    closeness = with_centroid(sets)[0, :, 2]
    torch.testing.assert_close(closeness, distance.mean() - distance)


def test_the_pointwise_rival_claims_what_the_machine_without_couplings_does():
    made = without_couplings(machine(size=0.5))
    weight = 2 * torch.stack([made.slope, made.longer]).detach()
    for of, claimed in zip(SETS[:5], LinearChoice(made, pointwise, weight).log_odds(SETS[:5]), strict=True):
        with torch.no_grad():
            odds = made.log_odds(made.standard([of]))[0]
        torch.testing.assert_close(torch.softmax(claimed, 0), torch.softmax(odds, 0))


def test_rivals_learn_what_was_chosen():
    rivals = fit_rivals(SETS, CHOSEN, seed=0)
    for rival in vars(rivals).values():
        right = [
            int(odds.argmax()) == int(one.argmax()) for odds, one in zip(rival.log_odds(SETS), CHOSEN, strict=True)
        ]
        assert sum(right) > 0.8 * len(SETS)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    return ComparisonSettings(
        write_preferences(tmp_path / "prefs.jsonl", 0, 100),
        tmp_path / "out",
        reward_model="fake",
        seeds=2,
        command="qbrm study candidates",
    )


def test_the_study_sets_the_machine_beside_its_rivals_on_files_and_preferences(settings, tmp_path, monkeypatch):
    files = [write_candidates(tmp_path / "some.jsonl", prompts=30)]
    text = study_candidates(settings, files, False, Reporter()).read_text()
    content = json.loads((settings.out / "candidates.json").read_text())
    sources = [settings.train.name, "some.jsonl"]
    assert [source["name"] for source in content["sources"]] == sources
    assert [(row["source"], row["method"]) for row in content["rows"]] == [
        (source, method) for source in sources for method in METHODS
    ]
    by_source = {source["name"]: source for source in content["sources"]}
    assert by_source["some.jsonl"]["sets"] == 12  # two seeds, each another fifth
    for row in content["rows"]:
        gold, source = row["gold"], by_source[row["source"]]
        assert 0 <= gold["ci_low"] <= gold["mean"] <= gold["ci_high"] <= 1
        assert gold["mean"] <= source["best"]
    refined, coupled = (
        next(row for row in content["rows"] if row["source"] == "some.jsonl" and row["method"] == method)
        for method in ("refined", "machine")
    )
    gain = coupled["gold"]["mean"] - refined["gold"]["mean"]
    assert coupled["over_refined"]["mean"] == pytest.approx(gain)
    assert refined["behind_machine"] == coupled["over_refined"]
    assert "## some.jsonl" in text
    assert "- The machine over reward and length:" in text

    monkeypatch.setattr(study, "_tested", lambda *given: pytest.fail("a finished seed was run again"))
    assert study_candidates(settings, files, False, Reporter()).read_text() == text


def test_ties_are_worth_the_least_of_them():
    assert study._chosen(*(torch.tensor(values).double().numpy() for values in ([1, 0.5, 0], [2, 2, 1]))) == 0.5


def test_a_sample_is_whole_prompts_in_an_order_of_their_own(tmp_path):
    lists = study.read_candidates(write_candidates(tmp_path / "some.jsonl", prompts=30))
    few = study._sample(lists, 46)
    assert len(few) == 11
    assert few == study._sample(lists[::-1], 100)[:11]


def test_without_sets_there_is_nothing_to_study(settings, tmp_path):
    with pytest.raises(InputError, match=r"has no best-of-n sets; expected some, or files named by --candidates"):
        study_candidates(replace(settings, train=pairs_only(settings.train)), [], False, Reporter())
    (tmp_path / "more").mkdir()
    same = [write_candidates(folder / "some.jsonl") for folder in (tmp_path, tmp_path / "more")]
    with pytest.raises(InputError, match=r"--candidates names 'some.jsonl' twice"):
        study_candidates(settings, same, False, Reporter())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prompts": 9},
            "some.jsonl has 9 sets of two or more candidates, 7 of them to fit to and 2 to test",
        ),
        ({"n": 1}, "some.jsonl has 0 sets of two or more candidates"),
    ],
)
def test_a_file_with_few_sets_is_refused_before_anything_is_embedded(settings, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(study, "embed", lambda *given: pytest.fail("responses were embedded"))
    with pytest.raises(InputError, match=message):
        study_candidates(settings, [write_candidates(tmp_path / "some.jsonl", **change)], False, Reporter())


@pytest.fixture
def with_few_sets(settings):
    """A fifth of the prompts have several rejected responses, so that 4 or 5 are left to fit to."""
    lines = read_lines(pairs_only(settings.train))
    for line in lines[:20]:
        line["rejected"] = [line["rejected"], "another"]
    settings.train.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return settings


def test_preferences_with_few_sets_are_refused(with_few_sets):
    with pytest.raises(InputError, match=r"prefs.jsonl has 20 sets .* to test in seed [01]; expected at least 8"):
        study_candidates(with_few_sets, [], False, Reporter())


def test_a_prompt_that_trains_the_score_tests_no_candidates(settings, tmp_path):
    path = write_candidates(tmp_path / "some.jsonl", prompts=14)
    lines = read_lines(path)
    lines[3]["prompt"] = "question 5"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match='share the prompt "question 5"'):
        study_candidates(settings, [path], False, Reporter())


def test_the_command_names_a_bad_line_of_a_candidate_file(settings, tmp_path, command):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "candidates": [{"response": "b"}]}\n')
    code, _, err = command(
        "study", "candidates", "--train", settings.train, "--candidates", path, "--out", tmp_path / "o"
    )
    assert (code, err) == (2, f'qbrm: {path}, line 1: "candidates[0].gold" is missing; expected a finite number.\n')


def pairs_only(path):
    lines = read_lines(path)
    for line in lines:
        line["rejected"] = line["rejected"][0]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
