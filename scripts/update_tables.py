"""Put measured tables into the README, from what commands left in runs/.

    python scripts/update_tables.py demo=runs/demo rmb-fresh=runs/rmb rmb-shift=runs/rmb-shift rmb-same=runs/rmb-same
    python scripts/update_tables.py bench=runs/bench bench-sample=runs/bench sampling=runs/sampling

Each argument is MARKER=RUN; the text between ``<!-- MARKER -->`` and ``<!-- /MARKER -->`` is replaced. ``bench`` and
``bench-sample`` take the folder of ``qbrm bench ... --out FOLDER/NAME.json``;
``sampling`` that of ``qbrm study sampling``, whose plots go to docs/ too.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from qbrm.report import Results, markdown_table, read_results, update_markdown
from qbrm.report.comparison import comparison_grid
from qbrm.report.markdown import markdown_grid
from qbrm.report.parts import parts

README = Path(__file__).parent.parent / "README.md"


def main(arguments: list[str]) -> None:
    """Update every marker named on the command line."""
    for argument in arguments:
        marker, source = argument.split("=", 1)
        update_markdown(README, marker, _text(marker, source))


def _text(marker: str, source: str) -> str:
    if marker == "bench":
        return "\n\n".join(_bench(Path(source) / f"{name}.json", name) for name in ("refine", "train"))
    if marker == "bench-sample":
        return _bench_sample(Path(source) / "sample.json")
    if marker == "sampling":
        return _sampling(Path(source))
    results = read_results(Path(source))
    tables = _tables_only(results) if marker == "rmb-shift" else markdown_table(results)
    return f"{tables}\n\n{_origin(results)}"


def _sampling(study: Path) -> str:
    for plot in ("accuracy-by-size.png", "error-by-time.png"):
        shutil.copyfile(study / plot, README.parent / "docs" / plot)
    return (study / "sampling.md").read_text()


def _origin(results: Results) -> str:
    environment = results["environment"]
    notes = "; ".join(note for note in results["notes"] if note.startswith(("features:", "whole run")))
    return (
        f"`{results['command']}` · {notes} · {environment['cores']} cores, {environment['processor']}, "
        f"torch {environment['torch']}"
    )


def _tables_only(results: Results) -> str:
    """Every part's table without the list of differences: those of a shift's three tests fill pages."""
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
