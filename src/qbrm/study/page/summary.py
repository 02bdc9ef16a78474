"""The first paragraph: what won where, in words made from the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qbrm.report import Results
from qbrm.report.comparison import extent
from qbrm.report.numbers import percent, three_decimals
from qbrm.report.parts import Part, methods_of, parts, summary_row
from qbrm.study.page.files import StudyFiles
from qbrm.study.page.limits import study_targets
from qbrm.study.page.tables import REFERENCES
from qbrm.study.page.verdicts import listed, standing, whole_parts
from qbrm.study.robustness import CANDIDATE, Target


def summary(files: StudyFiles) -> list[str]:
    """What won where, a paragraph per part of the study."""
    found: list[str] = []
    if files.robustness is not None:
        found.append(" ".join(_robustness(files.robustness, study_targets(files))))
    if files.over_optimisation is not None:
        found.append(" ".join(map(_choosing_harder, files.over_optimisation["studies"])))
    if files.fine_tuned is not None:
        of_part = parts(files.fine_tuned)
        against = [standing(of_part, CANDIDATE, reference) for reference in REFERENCES]
        found.append(" ".join(["With the fine-tuned base:", *against]))
    return found


def _robustness(results: Results, judged: Sequence[Target]) -> Iterator[str]:
    whole = whole_parts(results)
    scenarios = {row["scenario"] for row in results["summary"]}
    yield f"Measured on held-out preferences ({extent(results)}) in {len(scenarios)} scenarios."
    for reference in REFERENCES:
        yield standing(parts(results), CANDIDATE, reference)
    yield f"By pairwise accuracy the first is {_winners(whole, 'accuracy')}."
    yield f"By log-loss it is {_winners(whole, 'nll')}."
    missed = sum(each.met is False for each in judged)
    open_ = sum(each.met is None for each in judged)
    unknown = f", {open_} not measured" if open_ else ""
    yield f"Of {len(judged)} targets, {len(judged) - missed - open_} are met, {missed} missed{unknown}."


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
    proxies = {row["method"]: row for row in found["peaks"] if row["method"] != "gold"}
    best = max(proxies.values(), key=lambda row: row["last_gold"])
    said = (
        f"Chosen among {best['last_n']:,} responses, gold from {found['gold_from']}, `{best['method']}` is worth most "
        f"({best['last_gold']:.2f})"
    )
    if CANDIDATE in proxies and best["method"] != CANDIDATE:
        said += f", `{CANDIDATE}` {proxies[CANDIDATE]['last_gold']:.2f}"
    if "base" in proxies and best["method"] != "base":
        base = proxies["base"]
        said += f", the base {base['last_gold']:.2f} after a peak of {base['peak_gold']:.2f} at n = {base['peak_n']:,}"
    return said + "."
