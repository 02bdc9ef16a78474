"""Subjects of `qbrm study` and the options that they take."""

import pytest

from qbrm_lab.studies.everything import PARTS
from qbrm_lab.study_command import QUICK_TRAIN_PROMPTS, RUNS, TAKES, Study


def test_every_subject_is_run_in_one_way():
    ways = [Study.ALL.value, *PARTS, *(subject.value for subject in RUNS)]
    assert sorted(ways) == sorted(subject.value for subject in Study)


@pytest.mark.parametrize(
    ("subject", "option", "expected"),
    [
        ("keep", ["--candidates", "x.jsonl"], "expected it with reward-models, best-of-n, candidates only"),
        ("all", ["--reward-model", "x"], "expected it with embeddings, harden, best-of-n, candidates, published only"),
        ("best-of-n", ["--steps", "3"], "--steps with the study best-of-n; expected it with grpo only"),
        ("keep", ["--epochs", "3"], "--epochs with the study keep; expected it with all, robustness, fine-tuned"),
        ("harden", ["--epochs", "5"], "--epochs with the study harden; expected it with all"),
        ("coverage", ["--workers", "2"], "--workers with the study coverage; expected it with all"),
        ("embeddings", ["--embedding", "mean"], "--embedding with the study embeddings; expected it with harden"),
    ],
)
def test_an_option_of_another_subject_is_one_line(qbrm_command, subject, option, expected, tmp_path):
    ended = qbrm_command("study", subject, "--train", "none.jsonl", "--out", str(tmp_path / "out"), *option)
    assert expected in ended.refused()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("subject", "options", "expected"),
    [
        ("keep", [], None),
        ("keep", ["--quick"], QUICK_TRAIN_PROMPTS),
        ("merge", ["--quick"], QUICK_TRAIN_PROMPTS),
        ("merge", ["--quick", "--train-prompts", "30"], 30),
    ],
)
def test_a_quick_study_of_two_domains_has_few_prompts(qbrm_command, monkeypatch, tmp_path, subject, options, expected):
    asked = []
    monkeypatch.setattr(f"qbrm_lab.studies.{subject}.study_{subject}", lambda *given: asked.append(given[2]))
    ended = qbrm_command("study", subject, "--train", "none.jsonl", "--out", str(tmp_path / "out"), *options)
    assert ended.code == 0
    assert asked == [expected]


def test_options_belong_to_subjects():
    assert set(TAKES) <= set(Study)
