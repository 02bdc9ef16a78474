"""Where refinement helps and where it does not: every scenario, every method, and the targets set beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.errors import InputError
from qbrm.tables.numbers import points, points_interval, three_decimals
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare
from qbrm_lab.comparison.records import results_from
from qbrm_lab.methods import METHODS
from qbrm_lab.report import Results, markdown_table, read_results, write_report
from qbrm_lab.report.parts import SET_NAMES, sets_of
from qbrm_lab.report.results import Difference, SetName, SummaryRow, is_above, is_below
from qbrm_lab.report.write import REPORT_FILE
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies.scenarios import scenario_tables

QUICK_LEFT_OUT = ("ebrm", "ebrm-exact", "mlp-ensemble", "mlp-gate-ensemble", "sqrbm-ensemble", "qbm")
# Exact likelihood takes EBRM even longer than its noise does.
ONLY_IN = {"ebrm-exact": ("small-1000",)}
CANDIDATE = "sqrbm-gate-ensemble"
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
    """Something that was to be reached, and whether it was.

    Attributes:
        text: what.
        found: the number that decides.
        met: whether it was reached; None if nothing was measured that could tell.
    """

    text: str
    found: str
    met: bool | None


def study_robustness(settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Run all scenarios with all methods, and set the results against the targets.

    Writes results.json and report.html (as a comparison does) and robustness.md to `settings.out`. Features and
    training states are kept there: the same call continues where an earlier one stopped.

    Args:
        settings: source, folder, seeds and epochs; scenarios and methods are the study's own.
        quick: leave out what takes long: EBRM, ensembles but the judged one, `qbm`, and all but one size of small
            preference sets.
        reporter: told what is going on.

    Returns:
        The path of robustness.md.

    Raises:
        InputError: if the source is not usable.
    """
    prepared = prepare(settings, reporter)
    tables = []
    for scenario in _scenarios(quick):
        names = tuple(name for name in METHODS if _takes_part(name, scenario, quick))
        methods = replace(settings, methods=names).selected_methods()
        tables.append(scenario_tables(prepared, scenario, methods, reporter))
    results = results_from(tables, settings.command, prepared.sources, [prepared.note])
    if not _is_reported(results, settings.out):
        write_report(results, settings.out)
    path = settings.out / "robustness.md"
    write_atomically(path, robustness_markdown(results).encode())
    return path


def _takes_part(method: str, scenario: str, quick: bool) -> bool:
    return scenario in ONLY_IN.get(method, VARIANTS) and not (quick and method in QUICK_LEFT_OUT)


def _is_reported(results: Results, folder: Path) -> bool:
    """Whether an earlier call has written the same; how long embedding took then is left as it was."""
    if not (folder / REPORT_FILE).exists():
        return False
    try:
        return {**read_results(folder), "notes": []} == {**results, "notes": []}
    except InputError:
        return False


def robustness_markdown(results: Results) -> str:
    """Targets, what was found, and every scenario's table, generated from the results alone."""
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
        f"`{results['command']}` · {results['environment']['cores']} cores, torch {results['environment']['torch']}",
    ]
    return "\n".join(lines) + "\n"


def targets_table(found: Sequence[Target]) -> str:
    """Targets as documents show them."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [f"| {each.text} | {each.found} | {words[each.met]} |" for each in found]
    return "\n".join(["| target | found | |", "| :-- | :-- | :-- |", *rows])


def targets(results: Results) -> list[Target]:
    """The targets that the present results can decide: none without pairwise preferences.

    Accuracy is pairwise accuracy, but where a target forbids to be worse: best-of-n must not be worse either.
    """
    if not (_against(results, "base") and _overall(results, "mlp")):
        return []
    return [*_accuracy_targets(results), *_calibration_targets(results)]


def _accuracy_targets(results: Results) -> Iterator[Target]:
    yield _never_below_mlp(results)
    over_mlp = _overall(results, "mlp")
    better = [row["scenario"] for row in over_mlp if (row["difference"] or 0) > 0]
    surely = [row["scenario"] for row in over_mlp if is_above(row)]
    yield Target(
        "better than the MLP in at least two scenarios, beyond the interval",
        f"{len(surely)} ({', '.join(surely) or 'none'}); by the mean {len(better)} ({', '.join(better) or 'none'})",
        len(surely) >= 2,
    )
    for reference in ("base", "mlp"):
        for row in (row for row in _overall(results, reference) if row["scenario"] == "shift"):
            gain = 100 * (row["difference"] or 0)
            yield Target(f"shift, both domains: 3 points above {reference}", _interval(row), gain >= 3)
    accuracy = {row["method"]: row["accuracy"] or 0.0 for row in _summary(results, "shift")}
    if "ebrm" in accuracy:
        gain = accuracy[CANDIDATE] - accuracy["ebrm"]
        yield Target("shift, both domains: 10 points above ebrm", points(gain), 100 * gain >= 10)
    else:
        yield Target("shift, both domains: 10 points above ebrm", "ebrm was left out", None)
    yield _never_below_base(results)


def _never_below_mlp(results: Results) -> Target:
    rows = [row for name in sets_of(results["summary"]) for row in _overall(results, "mlp", name)]
    return Target(
        "at least as accurate as the MLP, within the paired interval, in every scenario, best-of-n included",
        "; ".join(map(_named, rows)),
        not any(map(is_below, rows)),
    )


def _never_below_base(results: Results) -> Target:
    rows = [row for name in sets_of(results["summary"]) for row in _against(results, "base", name)]
    below = [row for row in rows if is_below(row)]
    worst = min(rows, key=lambda row: row["difference"] or 0)
    return Target(
        "never below the base by more than its interval, the un-refined domain and best-of-n included",
        "; ".join(map(_named, below)) or f"worst: {_named(worst)}",
        not below,
    )


def _calibration_targets(results: Results) -> Iterator[Target]:
    for name, key in (("log-loss", "nll"), ("calibration error", "ece")):
        best: list[str] = []
        scenarios = dict.fromkeys(row["scenario"] for row in results["summary"])
        for scenario in scenarios:
            rows = [row for row in _summary(results, scenario) if row[key] is not None]  # type: ignore[literal-required]
            winner = min(rows, key=lambda row: row[key])  # type: ignore[literal-required]
            mine = next(row for row in rows if row["method"] == CANDIDATE)
            best.append(
                f"{scenario} {three_decimals(mine[key])} "  # type: ignore[literal-required]
                f"(best: {winner['method']} {three_decimals(winner[key])})"  # type: ignore[literal-required]
            )
        met = all(f"best: {CANDIDATE} " in each for each in best)
        yield Target(f"a better {name} than every other method in every scenario, by the mean", "; ".join(best), met)


def _summary(results: Results, scenario: str) -> list[SummaryRow]:
    """Pairwise rows over all categories of the whole test."""
    return [
        row
        for row in results["summary"]
        if row["scenario"] == scenario
        and row["set"] == "pairwise"
        and row["category"] == "all"
        and ", " not in row["test"]
    ]


def _overall(results: Results, reference: str, name: SetName = "pairwise") -> list[Difference]:
    """The judged score's differences over whole tests, none about one of their domains."""
    return [row for row in _against(results, reference, name) if ", " not in row["test"]]


def _against(results: Results, reference: str, name: SetName = "pairwise") -> list[Difference]:
    """The judged score's differences, those of a test's domains too."""
    return [
        row
        for row in results["differences"]
        if row["reference"] == reference and row["method"] == CANDIDATE and row["set"] == name
    ]


def _named(row: Difference) -> str:
    domain = row["test"].partition(", ")[2]
    place = f"{row['scenario']} on {domain}" if domain else row["scenario"]
    return f"{place}{'' if row['set'] == 'pairwise' else ', ' + SET_NAMES[row['set']]} {_interval(row)}"


def _interval(row: Difference) -> str:
    return points_interval(row["difference"], row["ci_low"], row["ci_high"])


def _scenarios(quick: bool) -> list[str]:
    # The paper's own protocol, which takes longest, comes last.
    names = sorted(VARIANTS, key=lambda name: name == "same")
    return [name for name in names if not quick or name not in ("small-50", "small-1000")]
