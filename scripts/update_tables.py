"""Put measured tables into the READMEs and docs/, from what commands left in runs/.

    python scripts/update_tables.py demo=runs/demo study=runs/study bench=runs/bench bench-sample=runs/bench
    python scripts/update_tables.py sampling=runs/sampling

Each argument is MARKER=RUN; in every document that has them, the text between ``<!-- MARKER -->`` and
``<!-- /MARKER -->`` is replaced. ``study`` takes the folder of ``qbrm study``, ``bench`` and ``bench-sample`` that of
``qbrm bench ... --out FOLDER/NAME.json``, ``sampling`` that of ``qbrm study sampling``, whose plots go to docs/ too.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from qbrm.tables.grid import Column, Grid, contest
from qbrm.tables.markdown import markdown_grid
from qbrm.tables.numbers import three_decimals
from qbrm_lab.report import update_markdown
from qbrm_lab.report.comparison import accuracy, comparison_grid
from qbrm_lab.report.parts import methods_of, parts, summary_row
from qbrm_lab.results import Results, read_results
from qbrm_lab.results.facts import FeaturesEmbedded, RunTime
from qbrm_lab.studies.robustness import CANDIDATE

ROOT = Path(__file__).parent.parent
# The front page has these only; docs/results.md has all. Bold is what is best among all methods.
SCENARIOS = ("fresh", "shift")
METHODS = ("base", "mlp", "mlp:gate,members=5", "ebrm", CANDIDATE)


def main(arguments: list[str]) -> None:
    """Update every marker named on the command line."""
    documents = [*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")]
    for argument in arguments:
        marker, source = argument.split("=", 1)
        places = [path for path in documents if f"<!-- {marker} -->" in path.read_text()]
        if not places:
            raise SystemExit(f"no document has <!-- {marker} -->; expected one in README*.md or docs/.")
        for place in places:
            update_markdown(place, marker, _text(marker, source))


def _text(marker: str, source: str) -> str:
    if marker == "bench":
        return "\n\n".join(_bench(Path(source) / f"{name}.json", name) for name in ("refine", "train"))
    if marker == "bench-sample":
        return _bench_sample(Path(source) / "sample.json")
    if marker == "sampling":
        return _sampling(Path(source))
    if marker == "study":
        return _study(Path(source))
    results = read_results(Path(source))
    return f"{_tables(results)}\n\n{_origin(results)}"


def _study(study: Path) -> str:
    """Pairwise accuracy and log-loss of a few methods in a few scenarios."""
    results = read_results(study)
    named = {part.name: part.results for part in parts(results)}
    columns = [column for name in SCENARIOS for column in _scenario(name, named[name])]
    return f"{markdown_grid(Grid('', 'method', METHODS, tuple(columns)))}\n\n`{results.command}`"


def _scenario(name: str, results: Results) -> Iterator[Column]:
    methods = methods_of(results.summary)
    rows = [summary_row(results, method, "pairwise") for method in methods]
    accuracies, losses = ([getattr(row, score) if row else None for row in rows] for score in ("accuracy", "nll"))
    shown = [methods.index(method) for method in METHODS]
    for column in (
        contest(f"{name}: accuracy, %", accuracies, map(accuracy, rows)),
        contest("log-loss", losses, map(three_decimals, losses), min),
    ):
        best = frozenset(place for place, row in enumerate(shown) if row in column.best)
        yield Column(column.heading, tuple(column.cells[row] for row in shown), best)


def _sampling(study: Path) -> str:
    for plot in ("accuracy-by-size.png", "error-by-time.png"):
        shutil.copyfile(study / plot, ROOT / "docs" / plot)
    return (study / "sampling.md").read_text()


def _origin(results: Results) -> str:
    environment = results.environment
    facts = "; ".join(fact.sentence for fact in results.facts if isinstance(fact, FeaturesEmbedded | RunTime))
    return (
        f"`{results.command}` · {facts} · {environment['cores']} cores, {environment['processor']}, "
        f"torch {environment['torch']}"
    )


def _tables(results: Results) -> str:
    """Every part's table without the list of differences, which fills pages."""
    grids = [comparison_grid(part) for part in parts(results)]
    return "\n\n".join(f"{grid.caption}\n\n{markdown_grid(grid)}" for grid in grids)


def _bench(path: Path, name: str) -> str:
    headings = ["size", "method", "examples/s", "× published", "× our ebrm", "× floor's time"]
    lines = [
        [
            str(row["dim"]),
            row["method"],
            f"{row['rows_per_s']:,.0f}",
            f"{row['ratio_to_published']:,.3g}",
            f"{row['ratio_to_ebrm']:,.3g}",
            f"{row['multiple_of_floor']:.2f}",
        ]
        for row in json.loads(path.read_text())
    ]
    return f"`qbrm bench {name}`\n\n{_table(headings, lines)}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g}"


def _bench_sample(path: Path) -> str:
    headings = [
        "sampler",
        "spins",
        "batch",
        "updates/s",
        "× kaiwu-torch-plugin",
        "× dwave annealing",
        "largest moment error",
    ]
    lines = [
        [
            row["sampler"],
            str(row["spins"]),
            str(row["batch"]),
            f"{row['spin_updates_per_s'] / 1e6:,.1f} M",
            _ratio(row["ratio_to_kpp"]),
            _ratio(row["ratio_to_dwave"]),
            f"{row['max_moment_error']:.3f}",
        ]
        for row in json.loads(path.read_text())
    ]
    return f"`qbrm bench sample`\n\n{_table(headings, lines)}"


def _table(headings: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, rule, *lines])


if __name__ == "__main__":
    main(sys.argv[1:])
