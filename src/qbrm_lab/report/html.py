"""report.html: one file that shows everything and fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qbrm.cli.probe import probe_grids
from qbrm.tables.grid import Grid, column
from qbrm.tables.numbers import count, percent_interval
from qbrm_lab.methods import words_of
from qbrm_lab.report.categories import category_grid
from qbrm_lab.report.comparison import (
    accuracy,
    comparison_grid,
    difference,
    examples_per_second,
    extent,
    mean_seconds,
    timings_of,
)
from qbrm_lab.report.numbers import duration, mean, rate
from qbrm_lab.report.parts import SET_NAMES, Part, methods_of, parts, sets_of, summary_row
from qbrm_lab.report.plots.gallery import OPENING, Picture
from qbrm_lab.report.plots.probes import Probed
from qbrm_lab.report.uncertainty import uncertainty_grids
from qbrm_lab.report.verdicts import verdict_caution, verdict_grid
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Timing

TEMPLATE = "report.html.jinja"


def render_report(
    results: Results, drawn: list[list[Picture]], probed: Probed | None = None, of_probes: Picture | None = None
) -> str:
    """The report as HTML, with the pictures `drawn` of each part, in the order of `parts`, and that of the probes."""
    pairs = list(zip(parts(results), drawn, strict=True))
    loader = PackageLoader("qbrm_lab", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(
        openings=[_opening(part, pictures) for part, pictures in pairs],
        command=results.command,
        data=_data_grid(results),
        methods=_method_grid(results),
        sections=[_section(part, pictures) for part, pictures in pairs],
        probes=None if probed is None else _probes(probed, of_probes),
        timings=_timing_grid(results.timings),
        notes=[fact.sentence for fact in results.facts],
        environment=_environment_grid(results.environment),
    )


def _opening(part: Part, pictures: list[Picture]) -> dict[str, Any]:
    """The picture and the verdicts that the report opens with."""
    judged = bool(part.results.verdicts)
    return {
        "title": part.title,
        "images": [(picture, _alt(part, picture)) for picture in pictures if picture.plot is OPENING],
        "verdicts": verdict_grid(part) if judged else None,
        "caution": verdict_caution(part) if judged else "",
    }


def _section(part: Part, pictures: list[Picture]) -> dict[str, Any]:
    """What the template says of one part."""
    results = part.results
    return {
        "title": part.title,
        "extent": extent(results),
        "comparison": comparison_grid(part),
        "differences": _difference_grid(part) if results.differences else None,
        "uncertainty": uncertainty_grids(results),
        "categories": [grid for name in sets_of(results.rows) if (grid := category_grid(results, name)).labels],
        "images": [(picture, _alt(part, picture)) for picture in pictures if picture.plot is not OPENING],
    }


def _probes(probed: Probed, picture: Picture | None) -> dict[str, Any]:
    """What the template says of probes."""
    grids = [replace(grid, caption=grid.corner, corner="probe") for grid in probe_grids(probed.rows)]
    rates = [
        f"{row.probe} {percent_interval(*row.base)} base, {percent_interval(*row.refined)} refined"
        for row in probed.shown
        if row.base and row.refined
    ]
    alt = f"Plot, how often hacks win, in percent: {'; '.join(rates)}."
    return {"method": probed.method, "grids": grids, "images": [(picture, alt)] if picture else []}


def _difference_grid(part: Part) -> Grid:
    rows = [row for row in part.results.differences if row.category == "all"]
    cells = {(f"{row.method} over {row.reference}", row.set): difference(row) for row in rows}
    labels = tuple(dict.fromkeys(label for label, _ in cells))
    columns = tuple(
        column(SET_NAMES[name], [cells.get((label, name), "-") for label in labels]) for name in sets_of(rows)
    )
    return Grid("Differences in accuracy, in percentage points, paired over prompts", "methods", labels, columns)


def _method_grid(results: Results) -> Grid:
    names = methods_of(results.summary)
    return Grid("Methods", "method", tuple(names), (column("what it is", map(words_of, names)),))


def _data_grid(results: Results) -> Grid:
    sets = results.data
    columns = [column("used for", [row.role for row in sets])]
    for key in ("prompts", "pairs", "categories", "pairwise", "bon"):
        columns.append(column("best-of-n" if key == "bon" else key, [count(getattr(row, key)) for row in sets]))
    return Grid("Preference data", "name", tuple(row.name for row in sets), tuple(columns))


def _timing_grid(timings: list[Timing]) -> Grid:
    methods = methods_of(timings)
    train = [timings_of(timings, method, "train") for method in methods]
    refine = [timings_of(timings, method, "refine") for method in methods]
    columns = (
        column("training", [duration(mean_seconds(rows)) for rows in train]),
        column("training pairs", [count(_mean_examples(rows)) for rows in train]),
        column("refinement", [duration(mean_seconds(rows)) for rows in refine]),
        column("rewards", [count(_mean_examples(rows)) for rows in refine]),
        column("rewards refined", [rate(examples_per_second(rows)) for rows in refine]),
    )
    return Grid("Time taken, mean over seeds", "method", tuple(methods), columns)


def _mean_examples(timings: list[Timing]) -> float | None:
    return mean([timing.examples for timing in timings])


def _environment_grid(environment: Mapping[str, object]) -> Grid:
    values = column("value", map(str, environment.values()))
    return Grid("Where this was computed", "what", tuple(environment), (values,))


def _alt(part: Part, picture: Picture) -> str:
    results = part.results
    reached = [
        f"{method} {accuracy(summary_row(results, method, name))} {SET_NAMES[name]}"
        for method in methods_of(results.summary)
        for name in sets_of(results.summary)
    ]
    return f"Plot, {picture.plot.heading.lower()} for {part.title}. Test accuracy in percent: {'; '.join(reached)}."
