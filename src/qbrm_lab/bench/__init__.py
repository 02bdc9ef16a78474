"""Benchmarks of speed: QBRM against the published arithmetic and the hardware's floor, same inputs, one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qbrm.durable import make_folder, write_atomically
from qbrm.errors import InputError
from qbrm_lab.bench.embed import bench_embed
from qbrm_lab.bench.fit import bench_fit
from qbrm_lab.bench.refine import bench_refine
from qbrm_lab.bench.sample import bench_sample
from qbrm_lab.bench.scale import bench_scale
from qbrm_lab.bench.scores import DIMS
from qbrm_lab.bench.serve import bench_serve
from qbrm_lab.bench.train import bench_train

Rows = list[dict[str, Any]]
EMBED = "embed"


def _per_dim(bench: Callable[[int, int], Rows]) -> Callable[[int], Rows]:
    return lambda seed: [row for dim in DIMS for row in bench(dim, seed)]


SPEED_BENCHMARKS: dict[str, Callable[..., Rows]] = {
    "refine": _per_dim(bench_refine),
    "train": _per_dim(bench_train),
    "fit": bench_fit,
    "sample": bench_sample,
    EMBED: bench_embed,
    "scale": bench_scale,
    "serve": bench_serve,
}
# How the columns of a table are printed; the benchmark's other numbers are in its JSON only.
SPEED = {
    **dict.fromkeys(("dim", "method"), "{}"),
    "rows_per_s": "{:,.0f}",
    **dict.fromkeys(("ratio_to_published", "ratio_to_ebrm"), "{:,.3g}"),
    "multiple_of_floor": "{:.2f}",
}
FITTING = {
    **dict.fromkeys(("dim", "score", "fitted"), "{}"),
    "pairs": "{:,}",
    "seconds": "{:.1f}",
    "read_seconds": "{:.3g}",
    "multiple_of_reading": "{:,.3g}",
}
SAMPLING = {
    **dict.fromkeys(("sampler", "spins", "batch"), "{}"),
    "spin_updates_per_s": "{:,.0f}",
    **dict.fromkeys(("ratio_to_kpp", "ratio_to_dwave"), "{:,.3g}"),
    "max_moment_error": "{:.3f}",
}
EMBEDDING = {
    "way": "{}",
    **dict.fromkeys(("texts", "tokens", "tokens_per_s"), "{:,.0f}"),
    **dict.fromkeys(("ratio_to_plain", "cpu_ratio_to_plain", "time_over_last", "multiple_of_floor"), "{:.2f}"),
    "max_difference": "{:.1e}",
}
SCALE = {
    "rows": "{:,}",
    "dim": "{}",
    "pairs": "{:,}",
    **dict.fromkeys(("train_seconds", "cpu_seconds"), "{:.1f}"),
    **dict.fromkeys(("pairs_per_s", "anonymous_mib", "file_mib"), "{:,.0f}"),
}
SERVING = {
    "clients": "{}",
    "seconds": "{:.1f}",
    "requests": "{:,}",
    **dict.fromkeys(("errors", "wrong"), "{}"),
    **dict.fromkeys(("served_per_s", "offline_per_s"), "{:,.1f}"),
    **dict.fromkeys(("ratio_to_offline", "cpu_ratio_to_offline"), "{:.2f}"),
}
FORMATS = {
    "refine": SPEED,
    "train": SPEED,
    "fit": FITTING,
    "sample": SAMPLING,
    EMBED: EMBEDDING,
    "scale": SCALE,
    "serve": SERVING,
}


def run_benchmark(name: str, seed: int, as_json: bool, out: Path | None, **options: str) -> None:
    """Measure and print a table, or one JSON list and nothing else; with `out`, also write the list there.

    Args:
        name: one of `SPEED_BENCHMARKS`.
        seed: of inputs and weights.
        as_json: whether to print JSON.
        out: a file.
        **options: of `embed`.

    Raises:
        InputError: if another benchmark is given options.
    """
    if options and name != EMBED:
        given = " or ".join(f"--{option.replace('_', '-')}" for option in options)
        raise InputError(f"bench {name} takes no {given}; expected such options with bench {EMBED}.")
    console = Console()
    with console.status(f"bench {name}"):
        rows = SPEED_BENCHMARKS[name](seed, **options)
    if out is not None:
        make_folder(out.parent)
        write_atomically(out, (json.dumps(rows, indent=1) + "\n").encode(), listed=False)
    if as_json:
        print(json.dumps(rows))
    else:
        console.print(_table(name, rows))


def _table(name: str, rows: Rows) -> Table:
    formats = FORMATS[name]
    table = Table(title=f"bench {name}", title_justify="left")
    for key, form in formats.items():
        table.add_column(key.replace("_", " "), justify="left" if form == "{}" else "right")
    for row in rows:
        table.add_row(*("-" if row[key] is None else form.format(row[key]) for key, form in formats.items()))
    return table
