"""What studies of several sources have in common: what they ask of what is kept, and what they refuse."""

import json

import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
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


def write_domains(path):
    """Preferences of two domains, the larger of which a reward model learns."""
    lines = read_lines(write_preferences(path, 0, 100))
    for number, line in enumerate(lines):
        line["category"] = "Known/a" if number % 3 else "New/b"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__.removeprefix("qbrm_lab.studies."))
def test_a_kept_answer_is_of_the_very_same_reward_model(study, tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    questions = []

    def asked(path, question, kind, answer):
        questions.append(question)
        raise AskedError

    monkeypatch.setattr(study, "cached", asked)
    settings = ComparisonSettings(
        write_domains(tmp_path / "prefs.jsonl"), tmp_path / "out", reward_model="fake", seeds=1
    )
    with pytest.raises(AskedError):
        STUDIES[study](settings)
    assert questions[0]["reward_model"] == FakeEncoder().identity.to_dict()


@pytest.mark.parametrize("study", [keep, merge, published], ids=lambda study: study.__name__.removeprefix("qbrm_lab."))
@pytest.mark.parametrize("category", ["Known/a", "New/b"])
def test_a_test_without_both_domains_is_refused_before_anything_is_embedded(study, category, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "prepare", lambda *given: pytest.fail("responses were embedded"))
    sources = write_domains(tmp_path / "prefs.jsonl"), write_preferences(tmp_path / "test.jsonl", 200, 30)
    lines = ({**line, "category": category} for line in read_lines(sources[1]))
    sources[1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = ComparisonSettings(sources[0], tmp_path / "out", tests=sources[1:], reward_model="fake", seeds=1)
    found = category.partition("/")[0]
    with pytest.raises(InputError, match=f"test.jsonl has the domains {found}; expected Known and at least one other"):
        STUDIES[study](settings)


def test_a_reward_model_is_named_with_an_embedding_that_is_not_the_score_layers_input():
    names = [Identity("rm", "0123456789", "plain", 16, embedding=name).title for name in ("last", "layers")]
    assert names == ["rm@0123456", "rm@0123456, embedding layers"]
