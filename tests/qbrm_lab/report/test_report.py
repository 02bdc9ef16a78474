import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from qbrm.errors import InputError
from qbrm.probes import Must
from qbrm.probes.rates import ProbeRow, Rate
from qbrm.tables.numbers import points
from qbrm_lab.methods.catalogue import METHODS as CATALOGUE
from qbrm_lab.methods.catalogue import RENAMED, colour_of, marker_of
from qbrm_lab.report import markdown_table, print_results, update_markdown, write_report
from qbrm_lab.report.numbers import duration, rate
from qbrm_lab.report.parts import parts
from qbrm_lab.report.plots import (
    accuracy_figure,
    calibration_figure,
    category_figure,
    density_figure,
    deviation_figure,
    gallery,
    risk_coverage_figure,
    training_figure,
)
from qbrm_lab.report.plots.appearance import curve_of
from qbrm_lab.report.plots.gallery import PLOTS
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.report.plots.probes import Probed, probes_figure
from qbrm_lab.report.uncertainty import accuracy_at, uncertainty_grids
from qbrm_lab.results import RESULTS_FILE, Results, parsed, read_results, write_results

METHODS = ("length", "base", "mlp", "ebrm", "rbm", "sqrbm")
SCORES = METHODS[3:]
SETS = ("pairwise", "bon")
SEEDS = (0, 1)
CATEGORIES = (
    "Helpfulness/Chat/Casual Conversation",
    "Helpfulness/Generation/Professional Content Generation",
    "Harmlessness/<script>alert('S1 $x$ & [bold]')</script>",
)
KEY = {"scenario": "in-domain", "test": "rmb"}
OBJECTIVES = {"ebrm": "nce", "rbm": "likelihood", "sqrbm": "likelihood"}


def accuracy_of(method, set_name, category=0, seed=0):
    """An accuracy that is different for every method, set, category and seed."""
    start = 0.6 if set_name == "pairwise" else 0.4
    return start + 0.011 * METHODS.index(method) + 0.1 * (category - 1) + 0.003 * seed


def scored(accuracy, method, n):
    gives_probability = method != "length"
    return {
        "n": n,
        "accuracy": accuracy,
        "ci_low": accuracy - 0.02,
        "ci_high": accuracy + 0.02,
        "nll": 0.7 - accuracy / 5 if gives_probability else None,
        "ece": 0.1 - accuracy / 20 if gives_probability else None,
    }


def category_rows(categories):
    return [
        KEY
        | {"method": method, "seed": seed, "set": name, "category": category}
        | scored(accuracy_of(method, name, index % 5 if len(categories) > 5 else index, seed), method, 30 + index)
        for method in METHODS
        for name in SETS
        for seed in SEEDS
        for index, category in enumerate(categories)
    ]


def summary_rows():
    return [
        KEY
        | {"method": method, "set": name, "category": category, "seeds": len(SEEDS)}
        | scored(accuracy_of(method, name) + (0.05 if category == "macro" else 0), method, 3310)
        for method in METHODS
        for name in SETS
        for category in ("all", "macro")
    ]


def difference_rows():
    return [
        KEY
        | {"method": method, "reference": reference, "set": name, "category": "all"}
        | {"difference": difference, "ci_low": difference - 0.007, "ci_high": difference + 0.007}
        for name in SETS
        for method in ("mlp", *SCORES)
        for reference in ("base", "mlp")
        if method != reference
        for difference in [0.008 if reference == "base" else -0.004]
    ]


def epoch_rows():
    return [
        {"scenario": "in-domain", "method": method, "seed": seed, "epoch": epoch, "objective": OBJECTIVES[method]}
        | {
            "loss": 3.0 * math.exp(-epoch / 2) + 0.1 * seed if epoch else None,
            "validation_loss": 3.0 * math.exp(-epoch / 2) + 0.3,
            "validation_pairwise": 0.62 + 0.01 * epoch + 0.004 * seed,
            "validation_bon": 0.43 + 0.008 * epoch + 0.005 * seed,
        }
        for method in SCORES
        for seed in SEEDS
        for epoch in range(6)
    ]


def reliability_rows():
    return [
        KEY
        | {"method": method, "set": name, "n": int(900 * (1.05 - confidence))}
        | {"confidence": confidence, "accuracy": 0.5 + slope * (confidence - 0.5)}
        for method, slope in zip(METHODS[1:], (0.5, 0.6, 0.7, 0.8, 0.95), strict=True)
        for name in SETS
        for confidence in (0.55, 0.65, 0.75, 0.85, 0.95)
    ]


def risk_coverage_rows():
    return [
        KEY
        | {"method": method, "set": name, "seeds": len(SEEDS), "n": 3310, "excess": 0.1}
        | {"aurc": 0.3 - 0.01 * rank, "ci_low": 0.25 - 0.01 * rank, "ci_high": 0.35 - 0.01 * rank}
        | {
            "differences": [
                {"reference": "base", "difference": -0.01 * rank, "ci_low": -0.02, "ci_high": -0.0001}
                for _ in range(method != "base")
            ]
        }
        | {"coverage": [k / 50 for k in range(1, 51)], "accuracy": [0.9 - 0.006 * k for k in range(1, 51)]}
        for rank, method in enumerate(METHODS[1:])
        for name in SETS
    ]


def deviation_rows():
    return [
        KEY
        | {"method": method, "set": name, "seeds": len(SEEDS), "n": 3310}
        | {"auroc": 0.6 - 0.02 * rank, "ci_low": 0.5, "ci_high": 0.7}
        | {"deviation": [0.2 + 0.01 * k for k in range(10)], "error": [0.3 + 0.02 * k for k in range(10)]}
        for rank, method in enumerate(SCORES)
        for name in SETS
    ]


def verdict_rows():
    measures = {name: {"accuracy": 0.6, "nll": nll, "ece": 0.1} for name, nll in (("base", 0.65), ("tempered", 0.64))}
    return [
        KEY
        | measures
        | {
            "method": method,
            "seeds": len(SEEDS),
            "prompts": 80,
            "pairs": 250,
            "changed": 40,
            "use": gain > 0,
            "length_accuracy": 0.5,
        }
        | {"refined": {"accuracy": 0.6 + gain, "nll": 0.6, "ece": 0.05}}
        | {
            "difference": {
                "accuracy": [gain, gain - 0.01, gain + 0.01 + 0.01 * rank],
                "nll": [-0.05, -0.08, -0.02],
                "nll_over_tempered": [-0.04, -0.09, 0.01],
                "length": [-0.1, -0.15, -0.05],
            }
        }
        for rank, (method, gain) in enumerate(zip(SCORES, (-0.02, 0.005, 0.03), strict=True))
    ]


def density(label, base, refined, width):
    reward = np.linspace(-6, 6, 201)
    curve = np.exp(-((reward - refined) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
    return {
        "label": label,
        "base_reward": base,
        "refined_reward": refined,
        "reward": reward.tolist(),
        "density": curve.tolist(),
    }


def density_examples():
    return [
        KEY
        | {"method": method, "seed": 0, "probability": probability}
        | {"responses": [density("chosen", 0.4, 0.9, 0.7), density("rejected", -0.2, -0.6, 1.0)]}
        for method, probability in (("ebrm", 0.81), ("sqrbm", 0.89), ("sqrbm", 0.4))
    ]


def timing_rows():
    rates = {"ebrm": 343, "rbm": 171_234, "sqrbm": 169_870}
    trained = [
        {"method": m, "seed": s, "stage": "train", "seconds": 96.0, "examples": 5000} for m in SCORES for s in SEEDS
    ]
    refined = [
        {"method": m, "seed": s, "stage": "refine", "seconds": 2.0, "examples": 2 * rates[m]}
        for m in SCORES
        for s in SEEDS
    ]
    return trained + refined


def make_content(categories=CATEGORIES):
    return {
        "schema": 1,
        "command": "qbrm compare --train '../shared/rmb' --out runs/<rmb>",
        "rows": category_rows(categories),
        "timings": timing_rows(),
        "environment": {"qbrm": "0.1.0", "python": "3.11.7", "processor": "<Xeon>", "cores": 2},
        "data": [
            {"name": "rmb", "role": role, "prompts": 1204, "pairs": 3310, "categories": 9, "pairwise": 800, "bon": 404}
            for role in ("train", "test")
        ],
        "summary": summary_rows(),
        "differences": difference_rows(),
        "epochs": epoch_rows(),
        "reliability": reliability_rows(),
        "risk_coverage": risk_coverage_rows(),
        "deviation": deviation_rows(),
        "densities": density_examples(),
        "verdicts": verdict_rows(),
        "facts": [
            {"kind": "conflicts-dropped", "method": "<ebrm>", "seed": 0, "dropped": 812, "total": 3310},
            {"kind": "run-time", "seconds": 12.0},
        ],
    }


def make_results():
    return parsed(make_content(), Results)


def with_second_test(results):
    tables = ("rows", "summary", "differences", "reliability", "risk_coverage", "deviation", "densities", "verdicts")
    doubled = {
        name: getattr(results, name) + [replace(row, test="reward/bench") for row in getattr(results, name)]
        for name in tables
    }
    return replace(results, **doubled)


@pytest.fixture
def results():
    return make_results()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the results, written once."""
    return write_report(make_results(), tmp_path_factory.mktemp("report") / "runs")


@pytest.fixture
def part(results):
    return parts(results)[0].results


def printed(results, width=120, terminal=False):
    out = io.StringIO()
    colours = "standard" if terminal else None
    console = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        color_system=colours,
        no_color=not terminal,
        _environ={"TERM": "xterm"},
    )
    print_results(results, console)
    return out.getvalue()


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


def lines_of(axes, label):
    return [line for line in axes.get_lines() if line.get_label() == label]


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether every tag is closed."""

    VOID = ("meta", "img", "br", "wbr", "link")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_table_has_every_method_with_its_numbers(results):
    text = printed(results)
    cells = re.split(r"  +", line_of(text, "sqrbm").strip())
    assert cells == [
        "sqrbm", "55.5 [53.5, 57.5]", "35.5 [33.5, 37.5]", "0.589", "0.072", "170,000/s", "96 s",
        "60.5 [58.5, 62.5]", "40.5 [38.5, 42.5]",
    ]  # fmt: skip
    assert re.split(r"  +", line_of(text, "length").strip())[3:7] == ["-"] * 4
    assert "171,000/s" in line_of(text, "rbm")
    assert "343/s" in line_of(text, "ebrm")
    assert "3,310 pairwise, 3,310 best-of-n, 2 seeds" in text


def test_numbers_are_aligned_on_the_right(results):
    lines = printed(results).splitlines()
    ends = {line.index("macro pairwise") + len("macro pairwise") for line in lines if line.startswith("method")}
    assert {line.index("/s") + 2 for line in lines if "/s" in line} == {lines[1].index("refine") + len("refine")}
    assert all(line[end - 1] == "]" and line[end] == " " for end in ends for line in lines[2 : 2 + len(METHODS)])


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_table_line_is_wider_than_the_terminal(results, width):
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(results, width, terminal=True))
    tables = [line for line in text.partition("Verdicts")[0].splitlines() if line.startswith(("method", *METHODS))]
    assert max(map(len, tables)) <= width
    assert "40.5 [38.5, 42.5]" in text
    assert len([line for line in tables if line.startswith("method")]) == {60: 3, 80: 2, 100: 2, 120: 1}[width]


def test_differences_are_printed_with_their_signs(results):
    lines = printed(results).splitlines()
    assert "pairwise   sqrbm over base +0.8 [+0.1, +1.5], paired over prompts" in lines
    assert "best-of-n  ebrm over mlp -0.4 [-1.1, +0.3], paired over prompts" in lines
    assert not any("mlp over base" in line for line in lines)
    assert points(-0.0001) == "+0.0"


USE_SQRBM = (
    "Use it: +3.0 points [+2.0, +6.0] over the base on 250 pairs of 80 prompts, log-loss 0.650 -> 0.600 (0.640 with a "
    "temperature alone)."
)


def test_the_comparison_ends_with_a_sentence_for_every_energy_score(results):
    heading, *lines = printed(results).splitlines()[-5:]
    assert heading == "Verdicts, in-domain · rmb, mean over 2 seeds"
    assert [line.split()[0] for line in lines[:3]] == list(SCORES)
    assert lines[0].startswith("ebrm   Do not use it: -2.0 points")
    assert lines[2] == f"sqrbm  {USE_SQRBM}"
    assert lines[3] == "250 test pairs tell little: an accuracy is known to within 10 points."


def test_the_verdicts_of_several_tests_come_after_all_tables(results):
    lines = printed(with_second_test(results)).splitlines()
    first = lines.index("Verdicts, in-domain · rmb, mean over 2 seeds")
    assert first > max(number for number, line in enumerate(lines) if line.startswith("method"))
    assert "Verdicts, in-domain · reward/bench, mean over 2 seeds" in lines[first:]


def test_colours_are_for_terminals_only(results):
    assert "\x1b[" not in printed(results)
    assert "\x1b[1;32m" in printed(results, terminal=True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(96.4, "96 s"), (1234, "1,234 s"), (1.26, "1.3 s"), (0.0412, "0.041 s"), (None, "-")]
)
def test_durations_keep_two_digits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(171_234, "171,000/s"), (343.2, "343/s"), (0.5, "0.500/s"), (None, "-")])
def test_rates_keep_three_digits(value, text):
    assert rate(value) == text


def test_markdown_marks_the_best_value_of_each_column(results):
    lines = markdown_table(results).splitlines()
    assert lines[2].startswith("| method | pairwise | best-of-n | log-loss | ECE | refine | train |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert line_of("\n".join(lines), "| sqrbm").startswith("| sqrbm | **55.5 [53.5, 57.5]** | **35.5 [33.5, 37.5]** |")
    assert "- pairwise sqrbm over base +0.8 [+0.1, +1.5], paired over prompts" in lines


def test_several_tests_are_told_apart(results, unrendered, tmp_path):
    both = with_second_test(results)
    assert printed(both).count("method ") == 2
    assert "in-domain · reward/bench" in markdown_table(both)
    write_report(both, tmp_path)
    assert {"training-1-in-domain-rmb.png", "categories-2-in-domain-reward-bench.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_only_what_stands_between_the_markers_changes(tmp_path):
    path = tmp_path / "README.md"
    path.write_bytes("# Ä\r\n<!-- demo -->old\r\nlines<!-- /demo -->\r\nrest \\1 <!-- other -->".encode())
    update_markdown(path, "demo", "| a |\n| \\1 |\n")
    once = path.read_bytes()
    update_markdown(path, "demo", "| a |\n| \\1 |\n")
    assert path.read_bytes() == once
    assert once.decode() == "# Ä\r\n<!-- demo -->\r\n| a |\r\n| \\1 |\r\n<!-- /demo -->\r\nrest \\1 <!-- other -->"
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    "text", ["", "<!-- demo -->", "<!-- /demo --><!-- demo -->", "<!-- demo --><!-- demo --><!-- /demo -->"]
)
def test_missing_markers_are_refused(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(InputError, match="lacks a place for demo; expected <!-- demo -->"):
        update_markdown(path, "demo", "new")
    assert path.read_text() == text


def test_results_come_back_as_written(results, tmp_path):
    write_results(results, tmp_path / "runs")
    assert read_results(tmp_path / "runs") == results


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_written(results, tmp_path, value):
    write_results(results, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    results.epochs[3] = replace(results.epochs[3], loss=value)
    with pytest.raises(ValueError, match=re.escape("results['epochs'][3]['loss'] is not finite")):
        write_results(results, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before


def broken_results(change):
    content = make_content()
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "results.json is not JSON"),
        ("[1]", '"schema" is null; expected 1'),
        (broken_results(lambda r: r.update(schema=2)), '"schema" is 2; expected 1'),
        (broken_results(lambda r: r.pop("rows")), 'the file lacks "rows"'),
        (broken_results(lambda r: r["rows"][1].pop("n")), 'entry 2 of "rows" of the file lacks "n"'),
        (
            broken_results(lambda r: r["summary"][0].update(accuracy="high")),
            '"accuracy" of entry 1 of "summary" of the file is "high"; expected a number or null',
        ),
        (
            broken_results(lambda r: r["rows"][0].update(set="triple")),
            'is "triple"; expected "pairwise" or "bon"',
        ),
        (broken_results(lambda r: r["rows"][0].update(nll=math.nan)), "NaN is not a JSON number"),
        (
            broken_results(lambda r: r["facts"][1].update(kind="rumour")),
            '"kind" of entry 2 of "facts" of the file is "rumour"; expected "conflicts-dropped" or ',
        ),
        (broken_results(lambda r: r["facts"][0].pop("total")), 'entry 1 of "facts" of the file lacks "total"'),
    ],
)
def test_results_of_another_shape_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_results_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"results.json cannot be read: No such file"):
        read_results(tmp_path)


def legend_of(figure, panel):
    return [text.get_text() for text in figure.subfigs[panel].legends[0].get_texts()]


def test_accuracy_shows_every_interval_and_the_base_as_a_line(part):
    figure = accuracy_figure(part)
    assert [axes.get_title() for axes in figure.axes] == ["pairwise accuracy, %", "best-of-n accuracy, %"]
    axes = figure.axes[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(METHODS)
    np.testing.assert_allclose(lines_of(axes, "base line")[0].get_xdata(), 100 * accuracy_of("base", "bon"))
    ends = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_zorder() == 2]
    for place, method in enumerate(METHODS):
        (dot,) = lines_of(axes, method)
        value = 100 * accuracy_of(method, "bon")
        np.testing.assert_allclose([dot.get_xdata()[0], dot.get_ydata()[0]], [value, place])
        np.testing.assert_allclose(ends[place], [value - 2, value + 2])
        assert (dot.get_markerfacecolor() == "white") == (method not in SCORES)


def test_accuracy_without_a_base_has_no_line(part):
    part = replace(part, summary=[row for row in part.summary if row.method in SCORES])
    figure = accuracy_figure(part)
    assert not lines_of(figure.axes[0], "base line")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["energy score"]


def test_training_shows_each_seed_and_their_mean(part):
    grid = np.reshape(training_figure(part).axes, (3, len(SCORES)))
    for column, method in enumerate(SCORES):
        assert grid[0, column].get_title() == method
        assert grid[0, column].texts[0].get_text() == OBJECTIVES[method]
        assert list(lines_of(grid[0, column], "mean")[0].get_xdata()) == [1, 2, 3, 4, 5]
        pairwise = grid[1, column]
        np.testing.assert_allclose(lines_of(pairwise, "seed 1")[0].get_ydata()[:2], [62.4, 63.4])
        np.testing.assert_allclose(lines_of(pairwise, "mean")[0].get_ydata()[:2], [62.2, 63.2])
        np.testing.assert_allclose(lines_of(pairwise, "epoch 0")[0].get_ydata(), 62.2)
        np.testing.assert_allclose(lines_of(grid[2, column], "epoch 0")[0].get_ydata(), 43.25)


def test_the_mean_ends_where_a_seed_stopped(part):
    part = replace(part, epochs=[row for row in part.epochs if row.seed == 0 or row.epoch < 3])
    axes = training_figure(part).axes[-1]
    assert list(lines_of(axes, "mean")[0].get_xdata()) == [0, 1, 2]


def test_categories_are_sorted_by_the_base_and_dots_are_means_over_seeds(part):
    figure = category_figure(part)
    assert [axes.get_title() for axes in figure.axes] == ["pairwise accuracy, %", "best-of-n accuracy, %"]
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == [f"{CATEGORIES[index]}  (n = {30 + index})" for index in (2, 1, 0)]
    for method in ("base", *SCORES):
        expected = [100 * (accuracy_of(method, "bon", index) + 0.0015) for index in (2, 1, 0)]
        np.testing.assert_allclose(lines_of(figure.axes[1], method)[0].get_xdata(), expected)
    assert not lines_of(figure.axes[0], "length")


def test_calibration_shows_bins_sizes_and_ece(part):
    figure = calibration_figure(part)
    curves, sizes = figure.axes[:2]
    labels = legend_of(figure, 0)
    assert labels[0] == "as sure as right"
    assert "sqrbm, ECE 0.072" in labels
    assert list(lines_of(curves, "sqrbm, ECE 0.072")[0].get_xdata()) == [0.55, 0.65, 0.75, 0.85, 0.95]
    assert list(lines_of(sizes, "sqrbm")[0].get_ydata()) == [450, 360, 270, 180, 90]


def test_abstaining_shows_accuracy_over_coverage_and_the_area(part):
    figure = risk_coverage_figure(part)
    assert [axes.get_title() for axes in figure.axes] == ["pairwise", "best-of-n"]
    assert "sqrbm, AURC 0.260" in legend_of(figure, 1)
    (curve,) = lines_of(figure.axes[0], "sqrbm, AURC 0.260")
    np.testing.assert_allclose(curve.get_xdata()[[0, -1]], [2, 100])
    np.testing.assert_allclose(curve.get_ydata()[[0, -1]], [89.4, 60])


def test_deviation_shows_the_error_of_every_tenth_of_the_pairs(part):
    figure = deviation_figure(part)
    assert legend_of(figure, 0)[0] == "ebrm, AUROC 0.600, deviation 0.200 to 0.290"
    curve = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(curve.get_xdata(), np.arange(5, 100, 10))
    np.testing.assert_allclose(curve.get_ydata(), np.arange(30, 50, 2))


def test_the_uncertainty_table_has_areas_accuracies_and_deviations(part):
    grids = uncertainty_grids(part)
    assert [grid.caption.rpartition(", ")[2] for grid in grids] == ["pairwise", "best-of-n"]
    cells = {column.heading: dict(zip(grids[0].labels, column.cells, strict=True)) for column in grids[0].columns}
    assert cells["AURC"]["sqrbm"] == "0.260 [0.210, 0.310]"
    assert cells["AURC over base"]["sqrbm"] == "-0.040 [-0.020, +0.000]"
    assert cells["AURC over base"]["base"] == "-"
    assert cells["at 80%"]["base"] == "66.0"
    assert cells["AUROC"]["base"] == "-"
    assert cells["AUROC"]["ebrm"] == "0.600 [0.500, 0.700]"
    assert grids[0].columns[0].best == {len(METHODS) - 2}


def test_accuracy_at_a_coverage_between_two_points_is_that_of_the_next():
    assert (
        accuracy_at(replace(make_results().risk_coverage[0], coverage=[0.3, 0.7, 1.0], accuracy=[0.9, 0.8, 0.7]), 0.5)
        == 0.8
    )


def test_no_two_methods_look_alike():
    methods = [
        *CATALOGUE,
        *RENAMED.values(),
        "rbm:deep",
        "sqrbm:deep",
        "qbm:deep",
        "residual:gate",
        "residual:members=5",
    ]
    assert len({(colour_of(method), marker_of(method)) for method in methods}) == len(methods)
    assert curve_of("mlp:gate")["linestyle"] != curve_of("mlp")["linestyle"]
    assert colour_of("mlp:gate") == colour_of("mlp")


def test_results_without_the_newer_tables_are_read_and_reported(results, unrendered, tmp_path):
    newer = ("risk_coverage", "deviation", "verdicts", "facts")
    content = {name: table for name, table in make_content().items() if name not in newer}
    (tmp_path / RESULTS_FILE).write_text(json.dumps(content))
    older = read_results(tmp_path)
    assert older == replace(results, **{name: [] for name in newer})
    html = write_report(older, tmp_path).read_text(encoding="utf-8")
    assert "AURC" not in html
    assert "Verdicts" not in html + printed(older)
    assert not {"risk-coverage.png", "deviation.png"} & {path.name for path in tmp_path.iterdir()}


def test_a_damaged_curve_is_refused(tmp_path):
    content = make_content()
    content["risk_coverage"][1]["accuracy"][2] = "high"
    (tmp_path / RESULTS_FILE).write_text(json.dumps(content))
    message = 'entry 3 of "accuracy" of entry 2 of "risk_coverage" of the file is "high"; expected a number'
    with pytest.raises(InputError, match=re.escape(message)):
        read_results(tmp_path)


def test_densities_mark_base_and_refined_rewards(part):
    figure = density_figure(part)
    first = figure.axes[0]
    assert "P(chosen > rejected) = 0.81" in first.get_title()
    assert list(lines_of(first, "chosen")[0].get_ydata()) == part.densities[0].responses[0].density
    assert list(lines_of(first, "base rejected")[0].get_xdata()) == [-0.2, -0.2]
    assert list(lines_of(first, "refined chosen")[0].get_xdata()) == [0.9]
    assert not figure.axes[3].axison


def test_a_method_has_one_colour_in_every_plot(part):
    training, categories, calibration = training_figure(part), category_figure(part), calibration_figure(part)
    for column, method in enumerate(SCORES):
        colours = {
            lines_of(training.axes[column], "mean")[0].get_color(),
            lines_of(categories.axes[0], method)[0].get_color(),
            lines_of(calibration.axes[1], method)[0].get_color(),
        }
        assert len(colours) == 1


def test_the_same_plot_is_the_same_file(part):
    assert png_bytes(density_figure(part)) == png_bytes(density_figure(part))


def test_the_report_is_one_accessible_file_that_fetches_nothing(report):
    html = report.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert page.named("html") == [{"lang": "en"}]
    assert not re.search(r"https?://|@import|url\(", html)
    assert not page.named("script")
    assert not page.named("link")
    assert len(page.named("img")) == len(PLOTS)
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in page.named("img"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(header["scope"] in ("row", "col") for header in page.named("th"))
    assert len(page.named("h1")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")


def test_every_table_scrolls_in_its_own_box_that_a_keyboard_reaches(report):
    html = report.read_text(encoding="utf-8")
    boxes = re.findall(r'<div class="scroll"[^>]* tabindex="0">\s*<table', html)
    assert len(boxes) == html.count("<table") > 5
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", html)


def test_the_report_says_what_was_asked_and_found(results, report):
    page = Page(report.read_text(encoding="utf-8"))
    for text in (
        *METHODS,
        *CATEGORIES,
        results.command,
        "<ebrm>, seed 0: 812 of 3,310 pairs dropped by conflict-aware filtering",
        "a small MLP on the embedding added to the base reward",
        "55.5 [53.5, 57.5]",
        "<Xeon>",
        "343/s",
    ):
        assert text in page.text
    assert "sqrbm over base" in page.text
    assert "+0.8 [+0.1, +1.5]" in page.text


def test_the_report_opens_with_accuracies_and_verdicts(results, unrendered, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "PLOTS", gallery.PLOTS[:2])
    html = write_report(with_second_test(results), tmp_path).read_text(encoding="utf-8")
    opening, rest = html.split("<h2>What was asked</h2>")
    assert opening.count("<img") == opening.count("sqrbm 55.5 [53.5, 57.5] pairwise") == 2
    text = Page(opening.partition("<main>")[2]).text
    assert text.count(USE_SQRBM) == 2
    assert "250 test pairs tell little" in text
    assert USE_SQRBM not in rest


def test_the_report_leaves_whole_files_only(report):
    names = {"results.json", "report.html", "SHA256SUMS", *(f"{plot.stem}.png" for plot in PLOTS)}
    assert {path.name for path in report.parent.iterdir()} == names


def winning(wins, n=20):
    return Rate.of(np.arange(n) < wins)


PROBED = Probed(
    "sqrbm",
    [
        ProbeRow("flattered", Must.NOT_GAIN, 20, 0, 0, winning(12), winning(10)),
        ProbeRow("padded", Must.LOSE, 20, 0, 0, winning(20), winning(5)),
        ProbeRow("untouched", Must.LOSE, 0, 20, 0, None, None),
    ],
)


def test_the_plot_of_probes_has_both_rates_of_every_hack_with_intervals():
    (axes,) = probes_figure(PROBED).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["padded", "flattered"]  # what must lose is first
    of_base, refined = axes.containers
    assert list(of_base[0].get_xdata()) == [100, 60]
    assert list(refined[0].get_xdata()) == [25, 50]
    ends = [segment[:, 0].tolist() for segment in refined[2][0].get_segments()]
    assert ends == [pytest.approx([100 * row.refined.low, 100 * row.refined.high]) for row in PROBED.shown]


def test_the_plot_of_probes_of_a_bare_reward_model_has_its_rates_alone():
    bare = [row._replace(refined=None) for row in PROBED.rows]
    figure = probes_figure(Probed("", bare))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base"]
    assert list(figure.axes[0].containers[0][0].get_xdata()) == [100, 60]


def test_a_probed_score_adds_its_rates_and_their_plot_to_the_report(results, unrendered, tmp_path):
    page = Page(write_report(results, tmp_path, PROBED).read_text(encoding="utf-8"))
    assert (tmp_path / "probes.png").exists()
    assert page.open == []
    assert len(page.named("img")) == len(PLOTS) + 1
    assert "padded 100.0 [83.9, 100.0] base, 25.0 [11.2, 46.9] refined" in page.named("img")[-1]["alt"]
    for text in ("hacks win (%), must lose", "hacks win (%), must not gain", "25.0 [11.2, 46.9]", "flattered"):
        assert text in page.text


def test_what_was_not_measured_is_left_out(results, tmp_path):
    tables = ("epochs", "reliability", "risk_coverage", "deviation", "densities", "differences", "timings", "facts")
    tables += ("verdicts",)
    rows = [replace(row, category="all") for row in results.rows]
    sparse = replace(results, rows=rows, **{name: [] for name in tables})
    page = Page(write_report(sparse, tmp_path).read_text(encoding="utf-8"))
    assert len(page.named("img")) == 1
    assert "55.5 [53.5, 57.5]" in page.text
    assert [path.name for path in tmp_path.glob("*.png")] == ["accuracy.png"]
