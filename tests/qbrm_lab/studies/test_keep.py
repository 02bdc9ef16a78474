"""The study of keeping an order: its parts by hand, and the whole of it on two small domains."""

import json
from dataclasses import replace

import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_two_domains
from qbrm.cli.console import Reporter
from qbrm.fitting.keeping import DEFAULT_WEIGHT
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.sources import read_sources
from qbrm_lab.results.study_rows import KeepRow
from qbrm_lab.studies import keep
from qbrm_lab.studies.keep import study_keep
from qbrm_lab.studies.keep_page import weight_by_validation

pytestmark = pytest.mark.usefixtures("one_thread")


def row(score, gate, weight, validation_new):
    share = (0.5, 0.4, 0.6)
    measured = {"new": share, "old": share, "order": share, "validation_old": 0.5}
    return KeepRow(score=score, gate=gate, weight=weight, validation_new=validation_new, **measured)


BASE_AND_FREE = [row("base", "none", 0.0, 0.5), row("rbm", "none", 0.0, 0.7), row("sqrbm", "none", 0.0, 0.7)]


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({0.0: (0.2, 0.2), 1.0: (0.19, 0.185), 3.0: (0.185, 0.17)}, 1.0),  # three tenths of a point short for one score
        ({0.0: (0.2, 0.2), 1.0: (0.1, 0.2), 3.0: (0.2, 0.2)}, 3.0),
        ({1.0: (0.1, 0.1)}, 0.0),
    ],
)
def test_the_weight_is_the_greatest_that_leaves_every_score_nine_tenths_of_its_gain(gains, expected):
    gated = [
        row(score, "two-sided", weight, 0.5 + gain)
        for weight, both in gains.items()
        for score, gain in zip(("rbm", "sqrbm"), both, strict=True)
    ]
    assert weight_by_validation([*BASE_AND_FREE, *gated]) == expected


def test_so_many_prompts_are_drawn_before_a_fifth_of_them_is_held_out(settings):
    sources = read_sources(settings, 40)
    (test,) = sources.tests.values()
    assert (len(sources.train.prompt_ids), len(test.prompt_ids)) == (32, 8)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    monkeypatch.setattr(keep, "WEIGHTS", (0.0, DEFAULT_WEIGHT))
    source = write_two_domains(tmp_path / "both.jsonl", 100)
    return ComparisonSettings(source, tmp_path / "out", reward_model="fake", seeds=2, command="qbrm study keep")


def test_the_study_sets_every_way_to_keep_beside_the_base(settings, monkeypatch):
    text = study_keep(settings, Reporter()).read_text()
    content = json.loads((settings.out / "keep.json").read_text())
    arms = [(row["score"], row["gate"], row["weight"]) for row in content["rows"]]
    ways = [
        ("none", 0.0),
        ("two-sided", 0.0),
        ("density", 0.0),
        ("none", DEFAULT_WEIGHT),
        ("two-sided", DEFAULT_WEIGHT),
    ]
    assert arms == [("base", "none", 0.0), *((score, *way) for score in keep.SCORES for way in ways)]
    base = content["rows"][0]
    assert base["order"] == [1, 1, 1]
    for row in content["rows"]:
        assert all(0 <= row[share][1] <= row[share][0] <= row[share][2] <= 1 for share in ("new", "old", "order"))
    assert (settings.out / "keep.png").read_bytes().startswith(b"\x89PNG")
    assert f"- `residual`, two-sided gate, weight {DEFAULT_WEIGHT:g}:" in text

    monkeypatch.setattr(keep, "_outcomes", lambda *given: pytest.fail("a finished seed was run again"))
    assert study_keep(settings, Reporter()).read_text() == text
    with pytest.raises(pytest.fail.Exception):
        study_keep(replace(settings, seed=5), Reporter())
