"""What stands first: what won where, made from the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qbrm.tables.numbers import percent, three_decimals
from qbrm_lab.report import Results
from qbrm_lab.report.comparison import extent
from qbrm_lab.report.parts import Part, methods_of, summary_row
from qbrm_lab.report.results import CANCELLED
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.page.limits import study_targets
from qbrm_lab.studies.page.tables import standing_table
from qbrm_lab.studies.page.verdicts import listed, whole_parts
from qbrm_lab.studies.robustness import CANDIDATE, Target


def summary(files: StudyFiles) -> list[str]:
    """What won where: paragraphs and tables."""
    found: list[str] = []
    if files.robustness is not None:
        found.append(" ".join(_robustness(files.robustness, study_targets(files))))
        found.append(standing_table(files.robustness, CANDIDATE))
    if files.over_optimisation is not None:
        found.append(" ".join(map(_choosing_harder, files.over_optimisation["studies"])))
    if files.fine_tuned is not None:
        found += ["With the fine-tuned base:", standing_table(files.fine_tuned, CANDIDATE)]
    return found


def _robustness(results: Results, judged: Sequence[Target]) -> Iterator[str]:
    whole = whole_parts(results)
    scenarios = {row["scenario"] for row in results["summary"]}
    yield f"Measured on held-out preferences ({extent(results)}) in {len(scenarios)} scenarios."
    missed = sum(each.met is False for each in judged)
    open_ = sum(each.met is None for each in judged)
    unknown = f", {open_} not measured" if open_ else ""
    yield f"Of {len(judged)} targets, {len(judged) - missed - open_} are met, {missed} missed{unknown}."
    yield f"By pairwise accuracy the first is {_winners(whole, 'accuracy')}."
    yield f"By log-loss it is {_winners(whole, 'nll')}."


def _winners(whole: list[Part], key: str) -> str:
    """The best method of every scenario, scenarios with the same one together."""
    won: dict[str, list[str]] = {}
    for part in whole:
        rows: list[Any] = [
            summary_row(part.results, method, "pairwise") for method in methods_of(part.results["summary"])
        ]
        scored = [row for row in rows if row is not None and row[key] is not None]
        if scored:
            best = (max if key == "accuracy" else min)(scored, key=lambda row: row[key])
            number = percent(best[key]) if key == "accuracy" else three_decimals(best[key])
            won.setdefault(best["method"], []).append(f"{part.name} ({number})")
    return listed(f"`{method}` in {listed(names)}" for method, names in won.items())


def _choosing_harder(found: Any) -> str:
    """Gold of the choices of the base, EBRM, the judged score and the best, and who differs from the base."""
    rows = {row["method"]: row for row in found["peaks"] if row["method"] != "gold"}
    best = max(rows.values(), key=lambda row: row["last_gold"])
    told = [rows[name] for name in dict.fromkeys(("base", "ebrm", CANDIDATE, best["method"])) if name in rows]
    above = [f"`{name}`" for name, row in rows.items() if (row["over_base_low"] or 0) > CANCELLED]
    below = [f"`{name}`" for name, row in rows.items() if (row["over_base_high"] or 0) < -CANCELLED]
    return (
        f"Gold of the best of {best['last_n']:,} responses, gold from {found['gold_from']}: "
        f"{', '.join(map(_gold, told))}. Beyond the interval above the base: {', '.join(above) or 'none'}; below it: "
        f"{', '.join(below) or 'none'}."
    )


def _gold(row: Any) -> str:
    said = f"`{row['method']}` {row['last_gold']:.2f}"
    return f"{said} after {row['peak_gold']:.2f} at n = {row['peak_n']:,}" if row["peak_n"] < row["last_n"] else said
