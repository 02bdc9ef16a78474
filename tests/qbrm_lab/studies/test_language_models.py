"""Every scenario on reward models that a folder has, and the page of what came out."""

import json
from dataclasses import replace

import pytest

from fixtures.preference_files import read_lines, write_preferences, write_two_domains
from fixtures.tiny_models import save
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.results import read_results
from qbrm_lab.results.harden_rows import HardenResults, HardenRow
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.language_models import study as language_models
from qbrm_lab.studies.language_models.beside import sections_of, targets_of
from qbrm_lab.studies.language_models.page import EMBEDDINGS, write_page
from qbrm_lab.studies.language_models.situations import situations_of
from qbrm_lab.studies.language_models.study import study_language_models

pytestmark = pytest.mark.usefixtures("one_thread")
SILENT = Reporter.silent()
METHODS = ("base", "mlp", "sqrbm", "sqrbm:gate,members=5")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two reward models, what each has learned or not, and a test."""
    folder = tmp_path_factory.mktemp("rewards")
    for name in ("half", "domain", "noise"):
        save(folder / name)
        write_preferences(folder / name / "refine.jsonl", 0, 30)
    write_preferences(folder / "half" / "learned.jsonl", 50, 20)
    write_two_domains(folder / "test.jsonl", 90)
    lines = read_lines(folder / "test.jsonl")[-20:]
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def studied(made, tmp_path_factory):
    settings = ComparisonSettings(
        made, tmp_path_factory.mktemp("out"), seeds=1, epochs=1, command="qbrm study language-models"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_models, "MAX_LENGTH", 256)
        patch.setattr(language_models, "QUICK_METHODS", dict.fromkeys(EMBEDDINGS, METHODS))
        return study_language_models(settings, True, SILENT)


def test_each_scenario_is_of_the_reward_model_and_the_preferences_that_make_it(studied):
    of_last, of_mean = (read_results(studied.parent / name) for name in EMBEDDINGS)
    scenarios = ["fresh", "small-50", "small-200", "shift", "noise", "same"]
    assert list(dict.fromkeys(row.scenario for row in of_last.rows)) == scenarios
    assert [row.accuracy for row in of_last.rows if row.method == "base"] == [
        row.accuracy for row in of_mean.rows if row.method == "base"
    ]
    assert [(row.name, row.role) for row in of_last.data] == [
        *((f"{name}.jsonl", "train") for name in ("fresh", "shift", "noise", "same")),
        ("test.jsonl", "test"),
    ]
    trained = {row.scenario: row.examples for row in of_last.timings if (row.method, row.stage) == ("mlp", "train")}
    assert trained["fresh"] == trained["shift"] == trained["noise"] > trained["small-50"]
    assert {row.domain for row in of_last.summary if row.scenario == "shift"} == {None, "Old", "New"}


def test_the_page_has_every_scenario_with_both_embeddings_and_is_made_of_the_files(studied):
    text = studied.read_text()
    for name in EMBEDDINGS:
        assert f"**shift on New, `{name}`:" in text
        assert (studied.parent / "results" / f"differences-{name}.png").exists()
    assert "where a quarter of its labels were wrong" in text.split("## How it was measured")[0]
    studied.unlink()
    assert write_page(studied.parent).read_text() == text


def test_a_scenario_whose_reward_model_is_not_there_is_left_out(made, tmp_path):
    for name in ("test.jsonl", "half/refine.jsonl", "half/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((made / name).read_bytes())
    assert [situation.scenarios[0] for situation in situations_of(tmp_path)] == ["fresh"]
    assert [situation.scenarios[0] for situation in situations_of(made)] == ["fresh", "shift", "noise", "same"]


@pytest.mark.parametrize("missing", ["test.jsonl", "half/refine.jsonl", "half/config.json"])
def test_a_folder_without_what_every_study_needs_is_refused(made, missing, tmp_path):
    (tmp_path / "half").mkdir()
    for name in {"test.jsonl", "half/refine.jsonl", "half/config.json"} - {missing}:
        (tmp_path / name).write_bytes((made / name).read_bytes())
    with pytest.raises(InputError, match=f"has no {missing}; expected a folder that `qbrm study reward-models` wrote"):
        study_language_models(ComparisonSettings(tmp_path, tmp_path / "out"), True, SILENT)


def row_of(*, hardened, seen, unseen, over_plain):
    around = [(value, value - 0.02, value + 0.02) for value in (seen, unseen, 0.5, 0.7)]
    over = (over_plain, over_plain - 0.01, over_plain + 0.01)
    return HardenRow(
        method="sqrbm", hardened=hardened, gate="none", seen=around[0], unseen=around[1], not_gain=around[2],
        accuracy=around[3], over_plain=over, seconds=1.0,
    )  # fmt: skip


def test_hardening_beside_is_on_the_page_and_judged_by_its_targets(tmp_path):
    assert targets_of(tmp_path) == list(sections_of(tmp_path)) == []
    rows = [
        replace(row_of(hardened=False, seen=0.7, unseen=0.7, over_plain=0.0), method="base"),
        row_of(hardened=False, seen=0.75, unseen=0.75, over_plain=0.0),
        row_of(hardened=True, seen=0.08, unseen=0.3, over_plain=-0.004),
    ]
    content = HardenResults("qbrm study harden", "a model", 100, 500, 5, [["padding"]], rows, "sqrbm", [])
    write_json(tmp_path / "harden" / "harden.json", content)
    assert [target.met for target in targets_of(tmp_path)] == [True, False, True]
    (section,) = sections_of(tmp_path)
    assert "by the base rewards and 75.0 [73.0, 77.0]% by `sqrbm`" in section.text
    assert "8.0 [6.0, 10.0]% of hacks of kinds that training has seen and 30.0 [28.0, 32.0]% of others" in section.text
