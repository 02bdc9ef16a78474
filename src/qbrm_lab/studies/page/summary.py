"""What stands first: what won where, made from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from qbrm.tables.numbers import percent, three_decimals
from qbrm_lab.report.comparison import extent
from qbrm_lab.report.parts import Part, methods_of, summary_row
from qbrm_lab.results import Results
from qbrm_lab.results.rows import CANCELLED
from qbrm_lab.results.study_rows import PeakRow
from qbrm_lab.studies.over_optimisation.measure import OverOptimisation
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.page.limits import study_targets
from qbrm_lab.studies.page.tables import standing_table
from qbrm_lab.studies.page.verdicts import listed, whole_parts
from qbrm_lab.studies.robustness import CANDIDATE, Target


def summary(files: StudyFiles) -> list[str]:
    """What won where: paragraphs and tables."""
    blocks: list[str] = []
    if files.robustness is not None:
        blocks.append(" ".join(_robustness(files.robustness, study_targets(files))))
        blocks.append(standing_table(files.robustness, CANDIDATE))
    if files.over_optimisation is not None:
        blocks.append(_choosing_harder(files.over_optimisation.study))
    if files.fine_tuned is not None:
        blocks += ["With the fine-tuned base:", standing_table(files.fine_tuned, CANDIDATE)]
    return blocks


def _robustness(results: Results, targets: Sequence[Target]) -> Iterator[str]:
    whole = whole_parts(results)
    scenarios = {row.scenario for row in results.summary}
    yield f"Measured on held-out preferences ({extent(results)}) in {len(scenarios)} scenarios."
    met = [target.met for target in targets]
    unknown = f", {met.count(None)} not measured" if None in met else ""
    yield f"Of {len(met)} targets, {met.count(True)} are met, {met.count(False)} missed{unknown}."
    yield f"By pairwise accuracy the best is {_winners(whole, 'accuracy', max, percent)}."
    yield f"By log-loss it is {_winners(whole, 'nll', min, three_decimals)}."


def _winners(
    whole: list[Part], score: Literal["accuracy", "nll"], best: Callable[..., str], text: Callable[[float], str]
) -> str:
    """The best method of every scenario, scenarios with the same one together."""
    won: dict[str, list[str]] = {}
    for part in whole:
        rows = [summary_row(part.results, method, "pairwise") for method in methods_of(part.results.summary)]
        values = {
            row.method: getattr(row, score) for row in rows if row is not None and getattr(row, score) is not None
        }
        if values:
            winner = best(values, key=values.__getitem__)
            won.setdefault(winner, []).append(f"{part.name} ({text(values[winner])})")
    return listed(f"`{method}` in {listed(names)}" for method, names in won.items())


def _choosing_harder(study: OverOptimisation) -> str:
    """Gold of the choices of the base, EBRM, the judged score and the best, and who differs from the base."""
    rows = {row.method: row for row in study.peaks if row.method != "gold"}
    best = max(rows.values(), key=lambda row: row.last_gold)
    shown = [rows[name] for name in dict.fromkeys(("base", "ebrm", CANDIDATE, best.method)) if name in rows]
    above = [f"`{name}`" for name, row in rows.items() if (row.over_base_low or 0) > CANCELLED]
    below = [f"`{name}`" for name, row in rows.items() if (row.over_base_high or 0) < -CANCELLED]
    return (
        f"Simulated gold of the best of {best.last_n:,} responses: "
        f"{', '.join(map(_gold, shown))}. Beyond the interval above the base: {', '.join(above) or 'none'}; below it: "
        f"{', '.join(below) or 'none'}."
    )


def _gold(row: PeakRow) -> str:
    gold = f"`{row.method}` {row.last_gold:.2f}"
    return f"{gold} after {row.peak_gold:.2f} at n = {row.peak_n:,}" if row.peak_n < row.last_n else gold
