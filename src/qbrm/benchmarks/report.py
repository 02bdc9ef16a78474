"""The results of an evaluation: on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import qbrm
from qbrm.benchmarks.evaluate import BenchmarkResult
from qbrm.benchmarks.scores import Estimate, Row
from qbrm.durable import write_atomically
from qbrm.tables.grid import Grid, column
from qbrm.tables.markdown import markdown_grid
from qbrm.tables.numbers import count, percent_interval, points_interval, three_decimals
from qbrm.tables.terminal import PLAIN_WIDTH, grid_tables

SCHEMA = 1
JSON_FILE, MARKDOWN_FILE = "evaluation.json", "evaluation.md"


def print_results(results: Sequence[BenchmarkResult], console: Console) -> None:
    """Print the official table of each benchmark."""
    width = console.width if console.is_terminal else PLAIN_WIDTH
    for result in results:
        grid = _grid(result, "section")
        console.print(Text(grid.caption, style="bold"), soft_wrap=True)
        for table in grid_tables(grid, width):
            console.print(table, soft_wrap=True)
        for line in _lines(result):
            console.print(Text(line), soft_wrap=True)


def write_results(results: Sequence[BenchmarkResult], model: str, command: str, folder: Path) -> list[Path]:
    """Write evaluation.json and evaluation.md, and return their paths.

    Raises:
        InputError: if the folder cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "command": command,
        "qbrm": qbrm.__version__,
        "model": model,
        "benchmarks": [_as_json(result) for result in results],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    write_atomically(folder / JSON_FILE, text.encode())
    write_atomically(folder / MARKDOWN_FILE, _as_markdown(results, model, command).encode())
    return [folder / JSON_FILE, folder / MARKDOWN_FILE]


def _grid(result: BenchmarkResult, kind: str) -> Grid:
    rows = [row for row in result.rows if row.kind == kind]
    return Grid(
        caption=f"{result.source.benchmark.title} · {result.source.source} · {count(len(result.source.items))} items",
        corner=kind,
        labels=tuple(row.name for row in rows),
        columns=(
            column("items", (count(row.items) for row in rows)),
            column("base", (percent_interval(*row.base) for row in rows)),
            column("refined", (percent_interval(*row.refined) for row in rows)),
            column("refined - base", (points_interval(*row.difference) for row in rows)),
        ),
    )


def _lines(result: BenchmarkResult) -> list[str]:
    base, refined = result.base, result.refined
    lines = [
        f"log-loss {three_decimals(base.log_loss)} base, {three_decimals(refined.log_loss)} refined · "
        f"ECE {three_decimals(base.ece)} base, {three_decimals(refined.ece)} refined · {result.pairs:,} pairs"
    ]
    if result.trained_on is None:
        lines.append("which prompts trained this score is not recorded beside the model")
    elif result.trained_on:
        trained = f"{result.trained_on:,} of {len(result.prompts):,} prompts trained this score"
        lines.append(f"{trained}; on held-out ones it may do worse")
    if result.missing:
        lines.append(f"not there: {', '.join(result.missing)}; such parts are left out, unlike in published scores")
    return lines


def _as_markdown(results: Sequence[BenchmarkResult], model: str, command: str) -> str:
    parts = [f"# {model}", f"`{command}`"]
    for result in results:
        sections, subsets = _grid(result, "section"), _grid(result, "subset")
        parts += [f"## {sections.caption}", markdown_grid(sections), *_lines(result)]
        parts += [markdown_grid(subsets)] if subsets.labels else []
    return "\n\n".join(parts) + "\n"


def _as_json(result: BenchmarkResult) -> dict[str, Any]:
    return {
        "name": result.source.benchmark.name,
        "source": result.source.source,
        "items": len(result.source.items),
        "prompts": len(result.prompts),
        "prompts_trained_on": result.trained_on,
        "missing": result.missing,
        "rows": [_row(row) for row in result.rows],
        "pairs": {"n": result.pairs, "base": result.base._asdict(), "refined": result.refined._asdict()},
    }


def _row(row: Row) -> dict[str, Any]:
    return {name: value._asdict() if isinstance(value, Estimate) else value for name, value in row._asdict().items()}
