"""Put measured tables into the READMEs and the documentation, from what commands left in runs/.

    python scripts/update_tables.py demo=runs/demo study=runs/language-models bench=runs/bench bench-sample=runs/bench
    python scripts/update_tables.py sampling=runs/sampling embeddings-half=runs/half embeddings-domain=runs/domain

Each argument is MARKER=RUN; the text between ``<!-- MARKER -->`` and ``<!-- /MARKER -->`` is replaced. ``study`` takes
the folder of ``qbrm study language-models``, ``bench`` and ``bench-sample`` that of ``qbrm bench ... --out
FOLDER/NAME.json``, ``sampling`` that of ``qbrm study sampling``, whose plots go to docs/ too, ``embeddings-...`` that
of ``qbrm study embeddings``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from qbrm.tables.markdown import markdown_grid
from qbrm_lab.report import update_markdown
from qbrm_lab.report.comparison import comparison_grid
from qbrm_lab.report.parts import parts
from qbrm_lab.results import Results, read_results
from qbrm_lab.results.facts import FeaturesEmbedded, RunTime
from qbrm_lab.studies.language_models.page import front_table, read_embeddings
from qbrm_lab.studies.sampling import PLOTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PLACES = {
    "demo": [DOCS / "compare.md"],
    "study": [ROOT / "README.md", ROOT / "README.zh-CN.md"],
    "bench": [DOCS / "speed.md"],
    "bench-sample": [DOCS / "speed.md"],
    "sampling": [DOCS / "samplers.md"],
    "embeddings-half": [DOCS / "language-models.md"],
    "embeddings-domain": [DOCS / "language-models.md"],
}


def main(arguments: list[str]) -> None:
    """Update every marker named on the command line."""
    for argument in arguments:
        marker, source = argument.split("=", 1)
        text = _text(marker, Path(source))
        for page in PLACES[marker]:
            chinese = page.name == "README.zh-CN.md"
            update_markdown(page, marker, text.replace("| method |", "| 方法 |") if chinese else text)


def _text(marker: str, source: Path) -> str:
    if marker == "bench":
        return "\n\n".join(_bench(source / f"{name}.json", name) for name in ("refine", "train"))
    if marker == "bench-sample":
        return _bench_sample(source / "sample.json")
    if marker.startswith("embeddings-"):
        return (source / "embeddings.md").read_text().strip()
    if marker == "sampling":
        return _sampling(source)
    if marker == "study":
        return front_table(read_embeddings(source))
    results = read_results(source)
    return f"{_tables(results)}\n\n{_origin(results)}"


def _sampling(study: Path) -> str:
    for plot in PLOTS:
        shutil.copyfile(study / plot, DOCS / plot)
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
