"""Where refinement helps and where it does not: every scenario, every method, and targets set beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.errors import InputError
from qbrm.tables.numbers import points, points_interval, three_decimals
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare
from qbrm_lab.comparison.records import results_of
from qbrm_lab.report import markdown_table, write_report
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.report.write import REPORT_FILE
from qbrm_lab.results import Results, SetName, read_results
from qbrm_lab.results.rows import Difference, SummaryRow, is_above, is_below
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies.scenarios import scenario_tables

METHODS = (
    *("length", "base", "base:tempered", "base:mean", "base:worst", "base:uncertainty"),
    *("mlp", "mlp:ensemble=5", "mlp:gate", "mlp:gate,members=5", "gaussian", "quantile"),
    *("ebrm", "ebrm:exact", "rbm", "sqrbm", "sqrbm:members=5", "sqrbm:gate", "sqrbm:gate,members=5", "qbm"),
)
QUICK_LEFT_OUT = ("ebrm", "ebrm:exact", "mlp:ensemble=5", "mlp:gate,members=5", "sqrbm:members=5", "qbm")
# Exact likelihood takes even longer than EBRM's NCE+.
ONLY_IN = {"ebrm:exact": ("small-1000",)}
CANDIDATE = "sqrbm:gate,members=5"
# What was tried on splits of the training prompts, and in how many configurations.
TRIED_CONFIGURATIONS = {
    "inputs": 9,
    "gates": 58,
    "densities for the gate": 19,
    "rates and sizes": 18,
    "initial fields": 10,
    "encoder vectors": 2,
    "averaging, dropout and decay": 4,
    "means of machines": 6,
    "committees": 4,
    "when to keep the base": 6,
    "the base's claims in calibration": 7,
    "EBRM's learning rate and embedding": 6,
    "fine-tuning": 1,
}


class Target(NamedTuple):
    """A target, and whether it was met.

    Attributes:
        text: what was to be reached.
        measured: the number that decides.
        met: whether it was reached; None if nothing was measured that could tell.
    """

    text: str
    measured: str
    met: bool | None


def study_robustness(settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Run all scenarios with all methods, and compare the results with the targets.

    Writes results.json and report.html, as a comparison does, and robustness.md to `settings.out`. With `quick`, EBRM,
    ensembles except the judged one, `qbm` and all but one size of small preference sets are left out. Arguments and
    errors are those of :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of robustness.md.
    """
    prepared = prepare(settings, reporter)
    tables = []
    for scenario in _scenarios(quick):
        names = tuple(name for name in METHODS if _takes_part(name, scenario, quick))
        methods = replace(settings, methods=names).selected_methods()
        tables.append(scenario_tables(prepared, scenario, methods, reporter))
    results = results_of(tables, settings.command, prepared.sources, [prepared.features])
    if not _is_reported(results, settings.out):
        write_report(results, settings.out)
    path = settings.out / "robustness.md"
    write_atomically(path, robustness_markdown(results).encode())
    return path


def _takes_part(method: str, scenario: str, quick: bool) -> bool:
    return scenario in ONLY_IN.get(method, VARIANTS) and not (quick and method in QUICK_LEFT_OUT)


def _is_reported(results: Results, folder: Path) -> bool:
    """Whether an earlier call wrote the same, except how long embedding took, which is then left as it was."""
    if not (folder / REPORT_FILE).exists():
        return False
    try:
        return replace(read_results(folder), facts=[]) == replace(results, facts=[])
    except InputError:
        return False


def robustness_markdown(results: Results) -> str:
    """Targets, what was measured, and the table of every scenario, generated from the results alone."""
    environment = results.environment
    lines = [
        "## Targets",
        "",
        targets_table(targets(results)),
        "",
        f"The score that is judged is `{CANDIDATE}`. It was chosen, with its settings, on splits of the training "
        f"prompts where {sum(TRIED_CONFIGURATIONS.values())} configurations were tried; none was chosen or changed on "
        "a test.",
        "",
        "## All scenarios and methods",
        "",
        markdown_table(results),
        "",
        f"`{results.command}` · {environment['cores']} cores, torch {environment['torch']}",
    ]
    return "\n".join(lines) + "\n"


def targets_table(targets: Sequence[Target]) -> str:
    """Targets as documents show them."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [f"| {target.text} | {target.measured} | {words[target.met]} |" for target in targets]
    return "\n".join(["| target | measured | |", "| :-- | :-- | :-- |", *rows])


def targets(results: Results) -> list[Target]:
    """The targets that these results can decide: none without pairwise preferences.

    Accuracy is pairwise accuracy. Targets that forbid to be worse are about best-of-n accuracy too.
    """
    if not (_against(results, "base") and _overall(results, "mlp")):
        return []
    return [*_accuracy_targets(results), *_calibration_targets(results)]


def _accuracy_targets(results: Results) -> Iterator[Target]:
    yield _never_below_mlp(results)
    over_mlp = _overall(results, "mlp")
    better = [row.scenario for row in over_mlp if (row.difference or 0) > 0]
    beyond_interval = [row.scenario for row in over_mlp if is_above(row)]
    yield Target(
        "better than the MLP in at least two scenarios, beyond the interval",
        f"{len(beyond_interval)} ({', '.join(beyond_interval) or 'none'}); "
        f"by the mean {len(better)} ({', '.join(better) or 'none'})",
        len(beyond_interval) >= 2,
    )
    for reference in ("base", "mlp"):
        for row in (row for row in _overall(results, reference) if row.scenario == "shift"):
            gain = 100 * (row.difference or 0)
            yield Target(f"shift, both domains: 3 points above {reference}", _interval(row), gain >= 3)
    text = "shift, both domains: 10 points above ebrm"
    accuracy = {row.method: row.accuracy or 0.0 for row in _summary(results, "shift")}
    if "ebrm" in accuracy:
        gain = accuracy[CANDIDATE] - accuracy["ebrm"]
        yield Target(text, points(gain), 100 * gain >= 10)
    else:
        yield Target(text, "ebrm was left out", None)
    yield _never_below_base(results)


def _never_below_mlp(results: Results) -> Target:
    rows = [row for name in sets_of(results.summary) for row in _overall(results, "mlp", name)]
    return Target(
        "at least as accurate as the MLP, within the paired interval, in every scenario, best-of-n included",
        "; ".join(map(_named, rows)),
        not any(map(is_below, rows)),
    )


def _never_below_base(results: Results) -> Target:
    rows = [row for name in sets_of(results.summary) for row in _against(results, "base", name)]
    below = [row for row in rows if is_below(row)]
    worst = min(rows, key=lambda row: row.difference or 0)
    return Target(
        "never below the base by more than its interval, the un-refined domain and best-of-n included",
        "; ".join(map(_named, below)) or f"worst: {_named(worst)}",
        not below,
    )


def _calibration_targets(results: Results) -> Iterator[Target]:
    scores: dict[str, Callable[[SummaryRow], float | None]] = {
        "log-loss": lambda row: row.nll,
        "calibration error": lambda row: row.ece,
    }
    for name, score in scores.items():
        winners, numbers = set(), []
        for scenario in dict.fromkeys(row.scenario for row in results.summary):
            values = {row.method: value for row in _summary(results, scenario) if (value := score(row)) is not None}
            winner = min(values, key=values.__getitem__)
            winners.add(winner)
            mine, best = three_decimals(values[CANDIDATE]), three_decimals(values[winner])
            numbers.append(f"{scenario} {mine} (best: {winner} {best})")
        text = f"a better {name} than every other method in every scenario, by the mean"
        yield Target(text, "; ".join(numbers), winners == {CANDIDATE})


def _summary(results: Results, scenario: str) -> list[SummaryRow]:
    """Pairwise rows over all categories of the whole test."""
    return [
        row
        for row in results.summary
        if (row.scenario, row.set, row.category, row.domain) == (scenario, "pairwise", "all", None)
    ]


def _overall(results: Results, reference: str, name: SetName = "pairwise") -> list[Difference]:
    """The judged score's differences over whole tests, none about one of their domains."""
    return [row for row in _against(results, reference, name) if row.domain is None]


def _against(results: Results, reference: str, name: SetName = "pairwise") -> list[Difference]:
    """The judged score's differences, those of a test's domains too."""
    wanted = reference, CANDIDATE, name
    return [row for row in results.differences if (row.reference, row.method, row.set) == wanted]


def _named(row: Difference) -> str:
    place = f"{row.scenario} on {row.domain}" if row.domain else row.scenario
    return f"{place}{'' if row.set == 'pairwise' else ', ' + SET_NAMES[row.set]} {_interval(row)}"


def _interval(row: Difference) -> str:
    return points_interval(row.difference, row.ci_low, row.ci_high)


def _scenarios(quick: bool) -> list[str]:
    # The paper's own protocol, which takes longest, comes last.
    names = sorted(VARIANTS, key=lambda name: name == "same")
    return [name for name in names if not quick or name not in ("small-50", "small-1000")]
