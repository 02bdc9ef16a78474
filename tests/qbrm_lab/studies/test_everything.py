"""The whole study with one command, on a fake encoder: what it leaves, and that nothing finished is done twice."""

import io
import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from fixtures.hashing_model import HashingModel
from qbrm.cli.console import Reporter
from qbrm.durable import make_folder
from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.base import Embedded
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.methods import build_method
from qbrm_lab.results import read_results
from qbrm_lab.results.facts import OfOneTraining
from qbrm_lab.results.study_rows import CoverageRow
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies import cache, coverage, everything, robustness, scenarios
from qbrm_lab.studies.cache import cached, settings_of
from qbrm_lab.studies.everything import study_everything, study_part
from qbrm_lab.studies.journal import noted, read_journal
from qbrm_lab.studies.json_files import read_json
from qbrm_lab.studies.over_optimisation import measure
from qbrm_lab.studies.over_optimisation import study as over_optimisation_study
from qbrm_lab.studies.over_optimisation.measure import OverOptimisationSettings
from qbrm_lab.studies.over_optimisation.proxies import PROXIES
from qbrm_lab.studies.over_optimisation.study import OVER_OPTIMISATION_FILE, OverOptimisationResults, peaks_table
from qbrm_lab.studies.page import write_page
from qbrm_lab.studies.robustness import CANDIDATE
from qbrm_lab.study_command import study

pytestmark = pytest.mark.usefixtures("one_thread")

COMPARED = {"length", "base", "mlp", CANDIDATE}
CHOOSING = ("base", "mlp")


class Encoder(HashingModel):
    """An encoder: it has no rewards of its own."""

    def embed(self, prompts, responses):
        return Embedded(super().embed(prompts, responses).embedding, None)


def write_source(path, prompts=60):
    lines = [
        {
            "prompt": f"question {number}",
            "chosen": f"answer to {number}",
            "rejected": [f"worse {i}" for i in range(1 + 2 * (number % 2))],
            "category": f"{('Helpfulness', 'Harmlessness')[number % 3 == 0]}/{number % 2}",
        }
        for number in range(prompts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few methods, two scenarios, nothing drawn but what choosing harder draws."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(REWARD_MODELS, "encoder", Encoder)
        monkeypatch.setattr(robustness, "METHODS", [name for name in robustness.METHODS if name in COMPARED])
        monkeypatch.setattr(robustness, "VARIANTS", {name: VARIANTS[name] for name in ("fresh", "shift")})
        monkeypatch.setattr(over_optimisation_study, "PROXIES", {name: PROXIES[name] for name in CHOOSING})
        monkeypatch.setattr(
            over_optimisation_study, "OverOptimisationSettings", partial(OverOptimisationSettings, pool=200)
        )
        monkeypatch.setattr(coverage, "coverage_rows", simulated)
        monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])
        monkeypatch.setattr("qbrm_lab.studies.page.draw", lambda files: [])
        monkeypatch.setattr("qbrm_lab.studies.page.page_html", lambda text, folder: "")
        monkeypatch.setattr(everything, "study_fine_tuned", copy_as_fine_tuned)
        yield monkeypatch


def simulated(seed):
    return [CoverageRow(seed=seed, fitted_to="rewards", level=0.9, coverage=0.89 + 0.001 * seed, error=0.01)]


def copy_as_fine_tuned(settings, reporter):
    folder = settings.out / "fine-tuned"
    make_folder(folder)
    return shutil.copy(settings.out / "results.json", folder / "results.json")


def quiet():
    return Reporter(Console(quiet=True))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    source = write_source(folder / "prefs.jsonl")
    return ComparisonSettings(source, folder / "out", reward_model="encoder", seeds=1, epochs=1, command="qbrm study")


@pytest.fixture(scope="module")
def done(settings):
    printed = io.StringIO()
    path = study_everything(settings, False, Reporter(Console(file=printed, width=200)))
    return path, printed.getvalue()


def without_time(text):
    return [line for line in text.splitlines() if not line.startswith(("Time taken", "| the whole study"))]


def test_every_part_leaves_its_files_and_the_page_has_them_all(settings, done):
    path, printed = done
    text = path.read_text()
    for name in ("results.json", "report.html", "over-optimisation.json", "coverage.json", "fine-tuned/results.json"):
        assert (settings.out / name).exists()
    assert text.count("Not run: ") == 1  # sampling is a study of its own
    assert "Not run: `qbrm study sampling`" in text
    assert {row.method for row in read_results(settings.out).summary} == COMPARED
    for part in ("robustness", "over-optimisation", "coverage", "fine-tuned", "fresh", "shift", "elapsed"):
        assert any(line.startswith(part) for line in printed.splitlines())


def test_facts_on_a_training_have_the_scenario_they_are_of(settings, done):
    facts = [fact for fact in read_results(settings.out).facts if isinstance(fact, OfOneTraining)]
    assert all(fact.scenario in ("fresh", "shift") for fact in facts)


def test_over_optimisation_leaves_a_table_and_a_plot(settings, done):
    study = read_json(settings.out / OVER_OPTIMISATION_FILE, OverOptimisationResults).study
    table = (settings.out / "over-optimisation.md").read_text()
    assert table == peaks_table(study)
    assert [row.method for row in study.peaks] == ["gold", *CHOOSING]
    assert (settings.out / "over-optimisation.png").read_bytes().startswith(b"\x89PNG")
    for row in study.peaks:
        cells = (row.method, f"{row.peak_n:,}", f"{row.peak_gold:.2f}", f"{row.last_gold:.2f}")
        assert f"| {' | '.join(cells)} |" in table


def test_a_finished_study_is_not_computed_again(settings, done, monkeypatch):
    def again(*_):
        raise AssertionError("work was done again")

    monkeypatch.setattr(scenarios, "run_scenario", again)
    monkeypatch.setattr(measure, "_run_seed", again)
    monkeypatch.setattr(coverage, "coverage_rows", again)
    monkeypatch.setattr(robustness, "write_report", again)
    before = done[0].read_text()
    path = study_everything(settings, False, quiet())
    assert without_time(path.read_text()) == without_time(before)


def test_an_interrupted_part_goes_on_with_the_scenario_it_was_in(settings, done, monkeypatch, tmp_path):
    real, ran = scenarios.run_scenario, []

    def interrupted(prepared, scenario, *rest):
        ran.append(scenario)
        if ran == ["fresh", "shift"]:
            raise KeyboardInterrupt
        return real(prepared, scenario, *rest)

    monkeypatch.setattr(scenarios, "run_scenario", interrupted)
    other = replace(settings, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study_part("robustness", other, False, quiet())
    study_part("robustness", other, False, quiet())
    assert ran == ["fresh", "shift", "shift"]
    assert [call.finished for call in read_journal(tmp_path)] == [False, True]
    assert "cut short: 1 (robustness)." in write_page(tmp_path).read_text()
    rows = [read_results(folder).summary for folder in (tmp_path, settings.out)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("change", [{"seeds": 2}, {"seed": 1}, {"epochs": 2}])
def test_other_settings_are_another_question(settings, done, monkeypatch, change):
    def ran(*_):
        raise InterruptedError

    monkeypatch.setattr(scenarios, "run_scenario", ran)
    study_part("robustness", settings, False, quiet())
    with pytest.raises(InterruptedError):
        study_part("robustness", replace(settings, **change), False, quiet())


def test_results_of_another_version_are_computed_again(settings, done, monkeypatch):
    def ran(*_):
        raise InterruptedError

    monkeypatch.setattr(scenarios, "run_scenario", ran)
    monkeypatch.setattr(cache, "STUDY_VERSION", 0)
    with pytest.raises(InterruptedError):
        study_part("robustness", settings, False, quiet())


def test_quick_leaves_the_fine_tuned_base_out(settings, monkeypatch, tmp_path):
    ran = []
    for name in everything.PARTS:
        monkeypatch.setitem(
            everything.PARTS, name, lambda settings, quick, reporter, name=name: ran.append((name, quick))
        )
    quick = replace(settings, out=tmp_path, command="qbrm study --quick")
    path = study_everything(quick, True, quiet())
    assert ran == [("robustness", True), ("over-optimisation", True), ("coverage", True)]
    assert "Not run: `qbrm study fine-tuned`" in path.read_text()


@pytest.mark.parametrize(("options", "seeds"), [([], 5), (["--quick"], 1), (["--quick", "--seeds", "2"], 2)])
def test_the_command_studies_with_five_seeds_or_quickly_with_one(monkeypatch, tmp_path, options, seeds):
    asked = []
    monkeypatch.setattr(everything, "study_everything", lambda *given: asked.append(given))
    app = typer.Typer()
    app.command()(study)
    ran = CliRunner().invoke(app, ["--train", str(tmp_path / "prefs.jsonl"), "--out", str(tmp_path), *options])
    assert ran.exit_code == 0, ran.output
    ((settings, quick, _),) = asked
    assert (settings.seeds, quick) == (seeds, "--quick" in options)


def test_a_killed_call_leaves_its_mark_and_no_time(tmp_path):
    with noted(tmp_path, "robustness", "qbrm study"):
        (killed,) = read_journal(tmp_path)
    (ended,) = read_journal(tmp_path)
    assert (killed.finished, killed.seconds) == (False, None)
    assert ended.finished
    assert ended.seconds > 0


def test_what_is_kept_answers_its_own_question_alone(tmp_path):
    answers = iter([simulated(1), simulated(2)])
    path = tmp_path / "folder" / "kept.json"
    kept = [cached(path, {"seed": seed}, list[CoverageRow], lambda: next(answers))[0].seed for seed in (0, 0, 1, 1)]
    assert kept == [1, 1, 2, 2]


def test_a_methods_settings_are_json_and_tell_methods_apart():
    methods = [*map(build_method, robustness.METHODS), *PROXIES.values()]
    told = [json.dumps(settings_of(method)) for method in methods]
    assert not any("0x" in settings for settings in told)
    variants = [build_method(f"base:{name}") for name in ("mean", "worst", "uncertainty")]
    assert len({json.dumps(settings_of(method)) for method in variants}) == 3
    assert settings_of(build_method("sqrbm")) != settings_of(PROXIES["sqrbm"])
