"""Benchmarks: QBRM against the published arithmetic and the hardware's floor, on the same inputs in one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qbrm.bench.refine import bench_refine
from qbrm.bench.scores import DIMS
from qbrm.bench.train import bench_train
from qbrm.durable import make_folder, write_atomically

BENCHMARKS: dict[str, Callable[[int, int], list[dict[str, Any]]]] = {"refine": bench_refine, "train": bench_train}


def run_benchmark(name: str, seed: int, as_json: bool, out: Path | None) -> None:
    """Measure and print; with `out`, also write the JSON list there.

    Args:
        name: one of `BENCHMARKS`.
        seed: of inputs and weights.
        as_json: print one JSON list, nothing else.
        out: file to write.
    """
    console = Console()
    rows: list[dict[str, Any]] = []
    for dim in DIMS:
        with console.status(f"{name} at embedding size {dim}"):
            rows += BENCHMARKS[name](dim, seed)
    if out is not None:
        make_folder(out.parent)
        write_atomically(out, (json.dumps(rows, indent=1) + "\n").encode())
    if as_json:
        print(json.dumps(rows))
    else:
        console.print(_table(name, rows))


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"bench {name}, 64 hidden fields", title_justify="left")
    for heading in ("size", "method", "examples/s", "× published", "× ebrm", "× floor's time"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        ratios = (f"{row['ratio_to_published']:,.3g}", f"{row['ratio_to_ebrm']:,.3g}")
        floor = f"{row['multiple_of_floor']:.2f}"
        table.add_row(str(row["dim"]), row["method"], f"{row['rows_per_s']:,.0f}", *ratios, floor)
    return table
