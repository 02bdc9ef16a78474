"""The page of a study: it says what the study's files say, and of what was not run that it was not."""

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.study_files import METHODS, as_results, made_calls, made_over_optimisation, made_results, write_study
from qbrm_lab.methods import words_of
from qbrm_lab.report.parts import parts
from qbrm_lab.report.plots.multiples import FEWEST_DECISIONS, calibration_panels, difference_panels
from qbrm_lab.results import parsed
from qbrm_lab.results.facts import BaseKept, BoundChosen, Remark
from qbrm_lab.scenarios import VALIDATION_SHARE
from qbrm_lab.studies.journal import Call
from qbrm_lab.studies.over_optimisation.study import OverOptimisationResults, peaks_table
from qbrm_lab.studies.page import page, write_page
from qbrm_lab.studies.page.files import StudyFiles, read_files
from qbrm_lab.studies.page.limits import study_targets
from qbrm_lab.studies.page.tables import standing_table
from qbrm_lab.studies.page.times import seconds_of, working_calls
from qbrm_lab.studies.page.verdicts import standing
from qbrm_lab.studies.robustness import CANDIDATE, TRIED_CONFIGURATIONS

NUMBER = re.compile(r"(?<![\w.-])[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|\.\d)")
PICTURE = re.compile(r"!\[[^]]+\]\(([^)]+)\)")
# What the template says whatever was measured: names such as best-of-n's 10,000 are in the files.
SAID = {"95", "0.5", "25", "50", "5", "10", "3", "2"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def text(study):
    return write_page(study).read_text()


def numbers_in(value):
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers_in(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers_in(each)]
    if isinstance(value, str):
        return [float(found.replace(",", "")) for found in NUMBER.findall(value)]
    return [] if isinstance(value, bool) or value is None else [float(value)]


def ways_to_write(number):
    percent = 100 * number
    return {f"{number:{form}}" for form in (",.0f", ".2f", "+.2f", ".3f", "g")} | {
        f"{percent:.0f}", f"{percent:.1f}", f"{round(percent, 1) + 0.0:+.1f}"
    }  # fmt: skip


def test_every_number_on_the_page_is_in_the_files_or_counts_what_is_there(study, text):
    files = [json.loads(path.read_text()) for path in study.rglob("*.json")]
    known = {way for number in numbers_in(files) for way in ways_to_write(number)}
    known |= {f"{100 * VALIDATION_SHARE:.1f}", str(sum(TRIED_CONFIGURATIONS.values())), str(FEWEST_DECISIONS)} | SAID
    known |= set(map(str, TRIED_CONFIGURATIONS.values()))
    body = "\n".join(line for line in text.splitlines() if not _counts(line))
    unknown = [found for found in NUMBER.findall(PICTURE.sub("", body)) if found not in known]
    assert not unknown


def _counts(line):
    """Lines that count, average or add up what is in the files: each has a test of its own."""
    starts = (
        "Measured on",
        "Below the base",
        "Targets missed",
        "Time taken",
        "| the whole study",
        "| rewards |",
        "| preferences |",
    )
    return line.startswith(starts) or "beyond the interval" in line or "10 points above ebrm" in line


def test_tables_have_every_number_of_the_summary_and_of_the_differences(text):
    results = made_results()
    for row in results["summary"]:
        cell = f"{100 * row['accuracy']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
        assert cell in text
    for row in (row for row in results["differences"] if row["set"] == "pairwise"):
        middle, low, high = (round(100 * row[key], 1) + 0.0 for key in ("difference", "ci_low", "ci_high"))
        assert f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]" in text


def test_the_domains_of_a_shift_have_tables_of_their_own(text):
    for name in ("fresh", "shift", "shift on Helpfulness", "shift on Harmlessness", "same"):
        assert f"**{name}: 2,112 pairwise" in text


def test_targets_are_counted_as_the_table_marks_them(study, text):
    found = [each.met for each in study_targets(read_files(study))]
    said = f"Of {len(found)} targets, {found.count(True)} are met, {found.count(False)} missed."
    table = text.partition("## Targets")[2].partition("With the fine-tuned base")[0]
    assert said in text
    assert table.count("| met |") == found.count(True)
    assert table.count("| **missed** |") == found.count(False)


def test_the_first_paragraph_names_winners_and_where_the_candidate_stands(text):
    results = made_results()
    first = text.partition("## What was asked")[0]
    for scenario in ("fresh", "shift", "same"):
        rows = [
            row
            for row in results["summary"]
            if (row["scenario"], row["test"], row["set"], row["category"]) == (scenario, "prefs", "pairwise", "all")
        ]
        best = max(rows, key=lambda row: row["accuracy"])
        assert re.search(rf"`{best['method']}` in [^`]*{scenario} \({100 * best['accuracy']:.1f}\)", first)
    assert f"| {CANDIDATE} against |" in first


def test_gold_is_reported_with_a_peak_only_where_intervals_show_one(study):
    files = read_files(study)
    peaks = files.over_optimisation.study.peaks
    changes = {
        "base": {"peak_n": 10_000, "peak_gold": 1.5, "last_gold": 1.5},
        "mlp": {"peak_n": 100, "peak_gold": 2.5, "last_gold": 2.0, "over_base_low": 0.1, "over_base_high": 0.9},
        CANDIDATE: {"peak_n": 10_000, "last_gold": 1.4, "over_base_low": -0.3, "over_base_high": 1e-19},
    }
    peaks[:] = [replace(row, **changes.get(row.method, {})) for row in peaks]
    assert next(line for line in page(files).splitlines() if line.startswith("Simulated gold of")).startswith(
        f"Simulated gold of the best of 10,000 responses: `base` 1.50, `{CANDIDATE}` 1.40, `mlp` 2.00 "
        "after 2.50 at n = 100. Beyond the interval above the base: `mlp`; below it: none."
    )


def test_every_method_is_explained(text):
    for name in METHODS:
        assert f"- `{name}`: {words_of(name)}\n" in text


def test_standing_is_decided_by_the_interval():
    results = made_results()
    ends = {"fresh": (0.001, 0.05), "shift": (-0.01, 0.01), "same": (-0.05, -0.001)}
    for row in results["differences"]:
        row["ci_low"], row["ci_high"] = ends[row["scenario"]]
        row["difference"] = 0.01
    results = as_results(results)
    found = standing([part for part in parts(results) if part.domain is None], CANDIDATE, "base")
    assert [list(names) for names in found] == [["fresh"], ["shift"], ["same"]]
    row = next(line for line in standing_table(results, CANDIDATE).splitlines() if line.startswith("| base |"))
    neither = "shift +1.0, shift on Helpfulness +1.0, shift on Harmlessness +1.0"
    assert row == f"| base | fresh +1.0 | {neither} | same +1.0 |"


@pytest.mark.parametrize(
    ("part", "files", "heading"),
    [
        ("robustness", "robustness", "## Scenarios"),
        ("robustness", "robustness", "## Targets"),
        ("fine-tuned", "fine_tuned", "## A stronger base"),
        ("over-optimisation", "over_optimisation", "## Over-optimisation"),
        ("coverage", "coverage", "### Coverage on simulated rewards"),
    ],
)
def test_a_part_that_was_not_run_is_said_to_be_missing(study, part, files, heading):
    there, missing = (page(read) for read in (read_files(study), read_files(study)._replace(**{files: None})))
    sentence = f"Not run: `qbrm study {part}`"
    section = missing.partition(heading)[2].partition("\n## ")[0]
    assert sentence in section
    assert "|" not in section.partition("With the fine-tuned base")[0]
    assert sentence not in there


def test_a_folder_without_a_study_gives_a_page_that_says_so(tmp_path):
    text = write_page(tmp_path).read_text()
    assert text.count("Not run: ") == 7
    assert "|" not in text


def test_remarks_are_passed_on_and_facts_of_single_trainings_are_not(study):
    files = read_files(study)
    remark = "One encoder is fine-tuned per set of preferences, at the first seed's split."
    files.fine_tuned.facts.append(Remark(sentence=remark))
    section = page(files).partition("## A stronger base")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("- ")] == [f"- {remark}"]


def test_pictures_are_beside_the_page_and_all_are_shown(study, text):
    linked = PICTURE.findall(text)
    assert sorted(linked) == sorted(path.relative_to(study).as_posix() for path in study.rglob("*.png"))
    assert all((study / name).read_bytes().startswith(b"\x89PNG") for name in linked)


def test_the_page_is_also_one_file_that_fetches_nothing_and_says_the_same(study, text):
    html = (study / "results.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', html) == []
    assert html.count("data:image/png;base64,") == len(PICTURE.findall(text))
    assert html.count("<tr>") == sum(line.startswith("| ") and ":--" not in line for line in text.splitlines())
    assert html.count("<div") == html.count("</div>") == html.count("<table>")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert all(f"{100 * row['accuracy']:.1f} [" in " ".join(cells) for row in made_results()["summary"])
    assert 'name="viewport"' in html


def test_what_did_not_work_lists_missed_targets_harm_and_trainings_in_vain(study, text):
    section = text.partition("## What did not work")[2]
    missed = [each for each in study_targets(read_files(study)) if each.met is False]
    assert missed
    assert all(f"- {each.text}: {each.measured}" in section for each in missed)
    below = [row for row in made_results()["differences"] if row["reference"] == "base" and row["ci_high"] < 0]
    for row in below:
        assert f"{100 * row['difference']:+.1f} [{100 * row['ci_low']:+.1f}, {100 * row['ci_high']:+.1f}]" in section
    assert "- `sqrbm`, no epoch beat the base rewards on validation; they are kept: same, seed 0, 1, 2, 3, 4" in section


def test_over_optimisation_is_told_beyond_the_interval_alone(text):
    made = parsed(made_over_optimisation(), OverOptimisationResults).study
    line = next(line for line in text.splitlines() if line.startswith("Over-optimised"))
    assert {row.method for row in made.peaks if row.peaks} == set(re.findall("`([^`]+)`", line))
    assert peaks_table(made) in text


def test_scores_that_choose_as_the_base_are_named_beside_the_curves(study):
    files = read_files(study)
    made = files.over_optimisation.study
    assert "kept" not in page(files).partition("## Over-optimisation")[2].partition("\n## ")[0]
    made.facts.extend(BaseKept(method="sqrbm", seed=seed) for seed in (2, 2, 3))
    made.facts.extend(BoundChosen(method="sqrbm:lcb", seed=seed, z=z, tried=(0, 1, 2)) for seed, z in ((2, 1), (3, 0)))
    made.rows.extend(replace(made.rows[0], seed=seed) for seed in (2, 3))
    told = page(files).partition("## Over-optimisation")[2].partition("\n## ")[0]
    assert "2 seeds, each with 5 held-out prompts" in told
    assert "- `sqrbm`, no epoch beat the base rewards on validation; they are kept: seed 2, 3" in told
    assert "- `sqrbm:lcb`, validation chose z of 0, 1, 2: 1 (seed 2), 0 (seed 3)" in told


def test_coverage_is_a_mean_over_worlds_between_their_extremes(study, text):
    rows = json.loads((study / "coverage.json").read_text())["rows"]
    found = [row["coverage"] for row in rows if (row["fitted_to"], row["level"]) == ("rewards", 0.9)]
    low, high = sorted(found)
    assert f"{100 * sum(found) / 2:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in text


@pytest.mark.parametrize(
    ("seconds", "command", "met", "said"),
    [
        (2_600.0, "qbrm study --out a", True, "the whole study in under 3 hours"),
        (2_800.0, "qbrm study --out a", False, "the whole study in under 3 hours"),
        (140.0, "qbrm study --quick --out a", True, "`--quick` in under 10 minutes"),
        (160.0, "qbrm study --quick --out a", False, "`--quick` in under 10 minutes"),
        (None, "qbrm study --out a", None, "the whole study in under 3 hours"),
    ],
)
def test_time_is_held_against_the_limit_of_what_was_run(seconds, command, met, said):
    calls = made_calls(seconds, command)
    target = study_targets(StudyFiles(robustness=as_results(made_results()), calls=calls))[-1]
    assert said in target.text
    assert target.met is met


def test_fine_tuning_of_an_earlier_study_counts_against_the_limit():
    calls = made_calls(2_600.0, "qbrm study --out a")
    fine_tuned = made_results()
    fine_tuned["timings"] = [
        {"scenario": "fresh", "method": method, "seed": 0, "stage": "train", "seconds": 800.0, "examples": 1}
        for method in ("base", "mlp")
    ]
    target = study_targets(
        StudyFiles(robustness=as_results(made_results()), fine_tuned=as_results(fine_tuned), calls=calls)
    )[-1]
    assert "at most 3 h 07 min with the fine-tuning" in target.measured
    assert target.met is None


def test_reruns_of_what_is_finished_do_not_count_as_work_and_all_else_does():
    def call(part, seconds, finished=True, command="qbrm study"):
        return Call(part=part, command=command, finished=finished, seconds=seconds)

    calls = [
        call("robustness", 1.0, command="qbrm study --quick"),
        call("robustness", 10.0, finished=False),
        call("robustness", 20.0),
        call("coverage", 40.0),
        call("robustness", 80.0),
    ]
    assert seconds_of(working_calls(calls)) == {"robustness": 31.0, "coverage": 40.0}


def test_what_older_code_took_does_not_count_for_what_newer_code_found():
    def call(version, seconds):
        return Call(part="robustness", command="qbrm study", version=version, finished=True, seconds=seconds)

    assert seconds_of(working_calls([call(None, 100.0), call(1, 9000.0), call(1, 1.0)])) == {"robustness": 9000.0}


def test_a_quick_study_and_a_whole_one_in_one_folder_are_judged_apart():
    quick, whole = (
        made_calls(seconds, command) for seconds, command in ((140.0, "qbrm study --quick"), (2_600.0, "qbrm study"))
    )
    for calls, said in (
        ([*quick, *whole], "the whole study in under 3 hours"),
        ([*whole, *quick], "`--quick` in under 10 minutes"),
    ):
        target = study_targets(StudyFiles(robustness=as_results(made_results()), calls=calls))[-1]
        assert said in target.text
        assert target.met is True


def test_time_on_more_cores_than_the_target_has_decides_nothing():
    results = made_results()
    results["environment"]["cores"] = 64
    calls = made_calls(2_600.0, "qbrm study")
    target = study_targets(StudyFiles(robustness=as_results(results), calls=calls))[-1]
    assert (target.measured, target.met) == ("run on 64 cores", None)


def test_fewer_than_five_seeds_are_not_five():
    found = [study_targets(StudyFiles(robustness=as_results(made_results(seeds=range(n)))))[0] for n in (4, 5)]
    assert [(target.measured, target.met) for target in found] == [("4", False), ("5", True)]


def test_the_forest_has_a_panel_per_part_and_an_interval_per_method():
    results = as_results(made_results())
    figure = difference_panels(parts(results), "base")
    assert [axes.get_title() for axes in figure.axes] == [part.name for part in parts(results)]
    for axes, part in zip(figure.axes, parts(results), strict=True):
        drawn = sorted({line.get_xdata()[0] for line in axes.get_lines()} - {0})
        rows = [row for row in part.results.differences if (row.reference, row.set) == ("base", "pairwise")]
        assert drawn == pytest.approx(sorted(100 * row.difference for row in rows if row.method != "length"))


def test_groups_of_few_decisions_are_not_drawn():
    (axes, *_) = calibration_panels(parts(as_results(made_results())), ("base",)).axes
    assert list(axes.get_lines()[0].get_xdata()) == [0.55, 0.75]


def test_the_documents_take_page_and_plots_as_they_are(tmp_path):
    run, docs = tmp_path / "run", tmp_path / "docs"
    (docs / "small-encoder").mkdir(parents=True)
    (docs / "small-encoder" / "of-yesterday.png").write_bytes(b"old")
    run.mkdir()
    write_study(run, robustness=False, fine_tuned=False)
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "update_results.py"))
    script["update"]("small-encoder", run, docs)
    text = (run / "results.md").read_text()
    assert (docs / "small-encoder.md").read_text() == text.replace("](results/", "](small-encoder/")
    pictures = {path.name: path.read_bytes() for path in (run / "results").glob("*.png")}
    assert {path.name: path.read_bytes() for path in (docs / "small-encoder").iterdir()} == pictures
    assert set(pictures) == {"over-optimisation.png"}
