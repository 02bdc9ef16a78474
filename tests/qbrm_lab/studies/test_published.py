"""The study of our EBRM against the published code, on a checkout whose arithmetic the tests write a second time."""

import json
from dataclasses import replace

import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from fixtures.published_checkout import ASCENT, TRAINING, write_checkout
from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.methods.base import Task
from qbrm_lab.responses import Features
from qbrm_lab.studies.published import study, study_published
from qbrm_lab.studies.published.code import PublishedCode
from qbrm_lab.studies.published.features import Extent
from qbrm_lab.studies.published.page import agreed, explained, gained
from qbrm_lab.studies.published.rows import AgreementRow, DifferenceRow, SituationRow
from qbrm_lab.studies.published.scaled import RestartsAlone, ScaledEBRM

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def checkout(tmp_path):
    return write_checkout(tmp_path / "checkout")


def some_pairs(count=6, dim=3):
    generator = torch.Generator().manual_seed(0)
    embedding, reward = (torch.randn(*size, generator=generator) for size in ((2 * count, dim), (2 * count,)))
    return PairData(embedding, 5 * reward + 1, torch.arange(count), torch.arange(count, 2 * count))


def task_of(pairs):
    features = Features(pairs.embedding, pairs.reward, torch.zeros(len(pairs.reward)))
    return Task(pairs, pairs, features, 0, None, lambda rewards: {}, lambda epoch: None)


@pytest.mark.parametrize("deviation", [0.5, 4.0])
def test_a_scaled_score_sees_rewards_with_its_deviation(deviation):
    pairs = some_pairs()
    score = ScaledEBRM(pairs.dim, deviation=deviation)
    score.standardise(pairs.embedding, pairs.reward)
    seen = score.to_standard(pairs.reward)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.std()) == pytest.approx(deviation)
    assert score.renewed().deviation == deviation


def test_restarts_alone_change_rewards_beyond_two_and_no_others():
    pairs = some_pairs(200)
    task = task_of(pairs)
    units = ScaledEBRM(pairs.dim, deviation=2.0)
    units.standardise(*pairs.without_conflicts().responses())
    before = units.to_standard(pairs.reward)
    after = units.to_standard(RestartsAlone("restarts", 2.0).fit(task).rewards(task.features))
    kept = before.abs() <= 2
    torch.testing.assert_close(after[kept], before[kept], rtol=0, atol=1e-5)
    assert 0.2 < float((~kept).double().mean()) < 0.5
    assert float(after[~kept].abs().max()) <= 4.001
    assert float(after[~kept].abs().min()) < 1


def test_published_training_writes_nothing_and_tells_nobody(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    model = PublishedCode(checkout).train(some_pairs(), noise_samples=2, epochs=1, seed=0)
    assert not model.training
    assert sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("training", "ascent", "told"),
    [
        (TRAINING.replace("def train_ebm", "def train_it"), ASCENT, "has no train_ebm"),
        (TRAINING, "def infer(:", "is not Python"),
    ],
)
def test_a_folder_without_the_published_functions_is_refused(tmp_path, training, ascent, told):
    with pytest.raises(InputError, match=told):
        PublishedCode(write_checkout(tmp_path, training, ascent))


def test_a_folder_that_is_no_checkout_is_refused_in_one_line(tmp_path, qbrm_command):
    given = ("study", "published", "--train", tmp_path / "absent.jsonl", "--out", tmp_path / "out")
    refused = qbrm_command(*given, "--published", tmp_path).refused()
    assert "expected a checkout of github.com/AnamikaLochab/EBRM" in refused


def test_options_of_this_study_are_refused_by_others(tmp_path, qbrm_command):
    given = ("study", "keep", "--train", tmp_path / "absent.jsonl", "--out", tmp_path / "out")
    refused = qbrm_command(*given, "--reward-model", "somewhere").refused()
    assert refused.startswith("--reward-model with the study keep; expected ")


def test_sentences_follow_the_intervals():
    def difference(*values):
        return DifferenceRow(deviation=2.0, start="r0", difference=values)

    def row(*values):
        return SituationRow(refined_on="same", method="ebrm", accuracy=(0.5, 0.4, 0.6), over_base=values, nll=0.7)

    told = agreed([difference(0.01, -0.01, 0.03), difference(0.03, 0.01, 0.05)])
    assert "in 1 of 2 cases (not at deviation 2 from r0)" in told
    assert "+3.0 [+1.0, +5.0]" in told
    assert "gains" in gained(row(0.02, 0.01, 0.03))
    assert "loses" in gained(row(-0.02, -0.03, -0.01))
    assert "neither" in gained(row(0.02, -0.01, 0.05))


def test_the_explanation_compares_with_restarts_alone_and_with_the_base():
    def row(start, code, accuracy, over_base):
        over = (over_base, over_base - 0.01, over_base + 0.01)
        return AgreementRow(
            deviation=4.0, start=start, code=code, restarted=0.5, accuracy=(accuracy, 0, 1), over_base=over
        )

    told = explained(
        [
            *(row("hybrid", "ours", 0.50, -0.10), row("hybrid", "restarts alone", 0.48, -0.12)),
            *(
                row("hybrid", "published", 0.45, -0.15),
                row("r0", "ours", 0.57, -0.03),
                row("r0", "published", 0.61, 0.01),
            ),
        ]
    )
    assert "within 3.0 points of restarts alone" in told
    assert "its greatest difference from the base is -3.0 [-4.0, -2.0] points" in told


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    extent = Extent(train_prompts=70, test_prompts=20, noise_samples=2, deviations=(2.0,))
    monkeypatch.setattr(study, "QUICK", extent)
    lines = read_lines(write_preferences(tmp_path / "both.jsonl", 0, 120))
    for number, line in enumerate(lines):
        line["category"] = "Known/a" if number % 3 else "Target/b"
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ComparisonSettings(
        tmp_path / "both.jsonl",
        tmp_path / "out",
        reward_model="fake",
        seeds=2,
        epochs=1,
        command="qbrm study published",
    )


def test_the_study_finds_no_difference_to_a_code_that_does_the_same(settings, checkout, monkeypatch):
    text = study_published(settings, checkout, True, Reporter()).read_text()
    content = json.loads((settings.out / "published.json").read_text())
    assert (content["train_prompts"], content["test_prompts"]) == (70, 20)
    (same,) = content["same_weights"]
    assert same["value"] < 1e-5 < same["value_size"]
    assert abs(same["loss_difference"]) < 1e-4 * same["loss"]
    assert same["refined"] > 0.95
    arms = [(row["start"], row["code"]) for row in content["agreement"]]
    both = [(start, code) for code in ("ours", "published") for start in ("hybrid", "r0")]
    assert sorted(arms) == sorted([*both, ("hybrid", "restarts alone")])
    situation = {(row["refined_on"], row["method"]): row for row in content["situation"]}
    assert {refined_on for refined_on, _ in situation} == {"same", "target"}
    assert situation["target", "base"] == {**situation["same", "base"], "refined_on": "target"}
    assert situation["same", "base"]["over_base"] == [0, 0, 0]
    assert "## The same accuracies?" in text

    monkeypatch.setattr(study, "agreement_of", lambda *given: pytest.fail("a finished seed was run again"))
    assert study_published(settings, checkout, True, Reporter()).read_text() == text
    with pytest.raises(pytest.fail.Exception):
        study_published(settings, None, True, Reporter())


def test_without_a_checkout_the_published_rows_are_left_out(settings, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", lambda: FakeEncoder(reward=1))
    text = study_published(replace(settings, seeds=1), None, True, Reporter()).read_text()
    content = json.loads((settings.out / "published.json").read_text())
    assert not content["differences"]
    assert not content["same_weights"]
    assert {row["code"] for row in content["agreement"]} == {"ours", "restarts alone"}
    assert "The published code was left out" in text
    assert "which came trained" in text
    assert "taken to have learned Known, and all is tested on Target" in text
