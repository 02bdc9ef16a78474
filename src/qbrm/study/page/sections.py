"""The sections of the page: each is made from what the study left, or says that its part was not run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial

from qbrm.comparison.scenario import VALIDATION_SHARE, VARIANTS
from qbrm.report import Results
from qbrm.report.grid import Grid, column
from qbrm.report.markdown import markdown_grid
from qbrm.report.numbers import count, percent
from qbrm.report.parts import methods_of, parts
from qbrm.study.choosing_harder import peaks_table
from qbrm.study.page.files import FINE_TUNED, StudyFiles
from qbrm.study.page.pictures import (
    CALIBRATION,
    DEVIATION,
    DIFFERENCES,
    FINE_TUNED_DIFFERENCES,
    OVER_OPTIMISATION,
    RISK_COVERAGE,
    SAMPLING_PICTURES,
    shown,
)
from qbrm.study.page.tables import area_table, coverage_table, deviation_table, scenario_table
from qbrm.study.page.times import time_lines, time_target
from qbrm.study.robustness import CANDIDATE, TRIED_CONFIGURATIONS, targets, targets_table
from qbrm.study.sampling import sampling_markdown

METHODS = {
    "length": "the longer response wins",
    "base": "the reward model as it is",
    "base-tempered": "the same with one temperature, set on validation preferences",
    "base-mean": "mean of five base models that differ in their seed",
    "base-worst": "the least of their rewards",
    "base-uncertainty": "their mean less half their variance",
    "mlp": "a small MLP on the embedding added to the base reward, Bradley-Terry: the competitor",
    "mlp-ensemble": "five of them",
    "mlp-gate": "the MLP with the same gate as the gated QBM",
    "gaussian": "a Gaussian reward head with the probit preference likelihood",
    "quantile": "a quantile reward head",
    "ebrm": "EBRM as published: NCE+, conflict-aware filtering, 50-step ascent",
    "ebrm-exact": "EBRM's network, trained by exact likelihood and refined by its mode",
    "rbm": "classical restricted Boltzmann machine with a closed form",
    "sqrbm": "semi-quantum restricted Boltzmann machine with a closed form",
    "sqrbm-gate": "the same, whose correction fades where the embedding is unfamiliar to it",
    "qbm": "Boltzmann machine with couplings among its hidden spins",
}


def asked() -> str:
    """What was asked."""
    return """## What was asked

EBRM claims robustness: to noisy labels, to new domains, to over-optimisation. Does refining the rewards of a frozen reward
model keep that promise, does a quantum Boltzmann machine (QBM) keep it better than EBRM, and does either do more than a
plain MLP trained on the same preferences? How much is the uncertainty worth that comes with the rewards? Does it hold when
the base reward model is stronger? Targets were set before the study was run; each is marked below as met or missed."""


def measured(files: StudyFiles) -> str:
    """How it was measured."""
    lines = ["## How it was measured", ""]
    results = files.robustness or files.fine_tuned
    if results is None:
        return "\n".join([*lines, _not_run("robustness")])
    seeds = sorted({row["seed"] for row in results["rows"]})
    lines += [
        _data(results),
        "",
        f"Prompts are split, not pairs: none is both trained and tested on, and the test's prompts are the same for all "
        f"seeds. Of the training prompts {percent(VALIDATION_SHARE)}% validate: they choose epochs, temperatures and "
        f"thresholds. The seeds {', '.join(map(str, seeds))} were fixed before the run. `{CANDIDATE}`, the score that is "
        f"judged, was chosen with its settings on splits of the training prompts, where {TRIED_CONFIGURATIONS} "
        "configurations were tried; none was chosen or changed on a test.",
        "",
        "Accuracy counts a tie as wrong. Intervals are 95%, by bootstrap over prompts; differences are paired over prompts "
        "and seeds. Macro is the mean over categories. Log-loss, calibration error (ECE) and area under the risk-coverage "
        "curve (AURC) are those of pairwise decisions, the less the better.",
        "",
        *(f"- `{name}`: {_scenario(name)}" for name in dict.fromkeys(row["scenario"] for row in results["summary"])),
        "",
        *(f"- `{name}`: {METHODS[name]}" for name in methods_of(results["summary"]) if name in METHODS),
        "",
        *_origin(files, results),
    ]
    return "\n".join(lines)


def judged(files: StudyFiles) -> str:
    """The targets, met or missed, with either base."""
    lines = ["## Targets", ""]
    if files.robustness is None:
        lines.append(_not_run("robustness"))
    else:
        lines.append(targets_table([*targets(files.robustness), *time_target(files)]))
    if files.fine_tuned is not None:
        lines += ["", "With the fine-tuned base:", "", targets_table(targets(files.fine_tuned))]
    return "\n".join(lines)


def scenarios(files: StudyFiles) -> str:
    """A table per scenario and domain, and the paired differences as a plot."""
    lines = ["## Scenarios", ""]
    if files.robustness is None:
        return "\n".join([*lines, _not_run("robustness")])
    return "\n".join([*lines, *_scenario_tables(files.robustness), shown(DIFFERENCES)])


def uncertainty(files: StudyFiles) -> str:
    """What the uncertainty is worth."""
    lines = ["## Uncertainty", ""]
    if files.robustness is None:
        lines.append(_not_run("robustness"))
    else:
        lines += [
            "Area under the risk-coverage curve: the error rate when the least certain pairs are left undecided, averaged "
            "over how many are decided. The less, the better.",
            "",
            area_table(files.robustness),
            "",
            shown(RISK_COVERAGE),
            "",
            "Does the standard deviation of r tell where the refined reward errs? The probability (AUROC) that a wrongly "
            "decided pair has a greater predicted deviation than a rightly decided one; 0.5 knows nothing.",
            "",
            deviation_table(files.robustness),
            "",
            shown(DEVIATION),
            "",
            "Is P(a > b) what it says?",
            "",
            shown(CALIBRATION),
        ]
    lines += ["", "### Coverage on simulated rewards", ""]
    if files.coverage is None:
        lines.append(_not_run("coverage"))
    else:
        lines += [
            "Where the true reward is known, central intervals of p(r | e) should contain it as often as they claim; in "
            "percent, mean over simulated worlds with the least and the greatest of them.",
            "",
            coverage_table(files.coverage["rows"]),
        ]
    return "\n".join(lines)


def over_optimised(files: StudyFiles) -> str:
    """Best-of-n against gold."""
    lines = ["## Over-optimisation", ""]
    if files.over_optimisation is None:
        return "\n".join([*lines, _not_run("over-optimisation")])
    lines += [
        "All proxies learned from preferences of which a quarter is wrong, then chose the best of n responses; a gold reward "
        "that none of them saw says what the choice is worth. Simulated gold is in deviations of a pool from its mean, on "
        "candidates drawn around held-out prompts; gold from labels is the share of right choices among the responses that "
        "people compared. `gold` chooses by gold itself. Intervals are over seeds and pools.",
    ]
    for found in files.over_optimisation["studies"]:
        lines += ["", peaks_table(found), shown(OVER_OPTIMISATION[found["gold_from"]])]
    return "\n".join(lines)


def fine_tuned(files: StudyFiles) -> str:
    """All scenarios again with the stronger base."""
    lines = ["## A stronger base", ""]
    if files.fine_tuned is None:
        return "\n".join([*lines, _not_run(FINE_TUNED)])
    words = "The same encoder, fine-tuned end to end on the training prompts, as the base in all scenarios."
    return "\n".join([*lines, words, "", *_scenario_tables(files.fine_tuned), shown(FINE_TUNED_DIFFERENCES)])


def sampled(files: StudyFiles) -> str:
    """What sampling costs and buys."""
    lines = ["## Sampling the hidden spins", ""]
    if files.sampling is None:
        return "\n".join([*lines, _not_run("sampling")])
    pictures = [shown(picture) for picture in SAMPLING_PICTURES]
    return "\n".join([*lines, sampling_markdown(files.sampling["scores"], files.sampling["samplers"]), *pictures])


def _not_run(part: str) -> str:
    return f"Not run: `qbrm study {part}` has left nothing here."


def _scenario(name: str) -> str:
    split = VARIANTS[name]
    words = inspect.getdoc(split.func if isinstance(split, partial) else split) or ""
    return words.partition("\n")[0].replace("so many pairs", f"{name.partition('-')[2]} pairs")


def _data(results: Results) -> str:
    data = results["data"]
    headings = ("prompts", "pairs", "categories", "pairwise", "bon")
    columns = [column("used for", [row["role"] for row in data])]
    columns += [
        column(heading.replace("bon", "best-of-n"), [count(row[heading]) for row in data])  # type: ignore[literal-required]
        for heading in headings
    ]
    return markdown_grid(Grid("", "data", tuple(row["name"] for row in data), tuple(columns)))


def _origin(files: StudyFiles, results: Results) -> Iterator[str]:
    commands = [each["command"] for each in (files.robustness, files.fine_tuned) if each is not None]
    commands += [each["command"] for each in (files.over_optimisation, files.coverage) if each is not None]
    environment = results["environment"]
    yield f"Commands: {', '.join(f'`{command}`' for command in dict.fromkeys(commands))}."
    yield ""
    yield (
        f"Environment: qbrm {environment['qbrm']}, Python {environment['python']}, torch {environment['torch']}, "
        f"{environment['cores']} cores ({environment['processor']}), {environment['platform']}; "
        + "; ".join(note for note in results["notes"] if note.startswith("features:"))
        + "."
    )
    yield from time_lines(files.calls)


def _scenario_tables(results: Results) -> Iterator[str]:
    for part in parts(results):
        yield scenario_table(part)
        yield ""
