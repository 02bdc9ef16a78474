"""What studies keep is asked for again only of the very same reward model."""

import json

import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm.cli.console import Reporter
from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.base import Identity
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare
from qbrm_lab.studies import candidates, harden, keep, merge, scenarios
from qbrm_lab.studies.published import study as published

SILENT = Reporter.silent()
STUDIES = {
    candidates: lambda settings: candidates.study_candidates(settings, [], False, SILENT),
    harden: lambda settings: harden.study_harden(settings, 60, SILENT),
    keep: lambda settings: keep.study_keep(settings, SILENT),
    merge: lambda settings: merge.study_merge(settings, SILENT),
    published: lambda settings: published.study_published(settings, None, True, SILENT),
    scenarios: lambda settings: scenarios.scenario_tables(prepare(settings, SILENT), "fresh", {}, SILENT),
}


class AskedError(Exception):
    """Ends a study as soon as it asks."""


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__.removeprefix("qbrm_lab.studies."))
def test_a_kept_answer_is_of_the_very_same_reward_model(study, tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    lines = read_lines(write_preferences(tmp_path / "prefs.jsonl", 0, 100))
    for number, line in enumerate(lines):
        line["category"] = "Known/a" if number % 3 else "New/b"
    (tmp_path / "prefs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions = []

    def asked(path, question, kind, answer):
        questions.append(question)
        raise AskedError

    monkeypatch.setattr(study, "cached", asked)
    settings = ComparisonSettings(tmp_path / "prefs.jsonl", tmp_path / "out", reward_model="fake", seeds=1)
    with pytest.raises(AskedError):
        STUDIES[study](settings)
    assert questions[0]["reward_model"] == FakeEncoder().identity.to_dict()


def test_a_reward_model_is_named_with_an_embedding_that_is_not_the_score_layers_input():
    names = [str(Identity("rm", "0123456789", "plain", 16, embedding=name)) for name in ("last", "layers")]
    assert names == ["rm@0123456", "rm@0123456, embedding layers"]
