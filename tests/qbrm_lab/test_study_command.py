"""Subjects of `qbrm study` and the options that they take."""

import pytest

from qbrm_lab.studies.everything import PARTS
from qbrm_lab.study_command import RUNS, TAKES, Study


def test_every_subject_is_run_in_one_way():
    ways = [Study.ALL.value, *PARTS, *(subject.value for subject in RUNS)]
    assert sorted(ways) == sorted(subject.value for subject in Study)


@pytest.mark.parametrize(
    ("subject", "option", "expected"),
    [
        ("keep", ["--candidates", "x.jsonl"], "expected it with reward-models, best-of-n, candidates only"),
        ("all", ["--reward-model", "x"], "expected it with embeddings, harden, best-of-n, candidates, published only"),
        ("best-of-n", ["--steps", "3"], "--steps with the study best-of-n; expected it with grpo only"),
        ("embeddings", ["--embedding", "mean"], "--embedding with the study embeddings; expected it with harden"),
    ],
)
def test_an_option_of_another_subject_is_one_line(qbrm_command, subject, option, expected, tmp_path):
    ended = qbrm_command("study", subject, "--train", "none.jsonl", "--out", str(tmp_path / "out"), *option)
    assert expected in ended.refused()
    assert not (tmp_path / "out").exists()


def test_options_belong_to_subjects():
    assert set(TAKES) <= set(Study)
