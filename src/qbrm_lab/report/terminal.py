"""The comparison on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qbrm.tables.terminal import PLAIN_WIDTH, grid_tables
from qbrm_lab.report.comparison import comparison_grid, difference_lines
from qbrm_lab.report.parts import parts
from qbrm_lab.results import Results


def print_results(results: Results, console: Console | None = None) -> None:
    """Print each part's table and the differences between methods.

    Args:
        results: what to print.
        console: where to; standard output by default. Anything but a terminal gets lines of up to 120 columns.
    """
    console = console or Console()
    width = console.width if console.is_terminal else PLAIN_WIDTH
    for part in parts(results):
        grid = comparison_grid(part)
        _print_line(console, Text(grid.caption, style="bold"))
        for table in grid_tables(grid, width):
            console.print(table, soft_wrap=True)
        for line in difference_lines(part):
            _print_line(console, Text(line))


def _print_line(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True)
