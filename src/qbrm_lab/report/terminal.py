"""The comparison on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qbrm.tables.terminal import PLAIN_WIDTH, grid_tables
from qbrm_lab.report.comparison import comparison_grid, difference_lines
from qbrm_lab.report.parts import parts
from qbrm_lab.report.verdicts import verdict_heading, verdict_lines
from qbrm_lab.results import Results


def print_results(results: Results, console: Console | None = None) -> None:
    """Print each part's table and the differences between methods, then all verdicts.

    Tables are up to 120 columns wide where it is no terminal.
    """
    console = console or Console()
    width = console.width if console.is_terminal else PLAIN_WIDTH
    for part in parts(results):
        grid = comparison_grid(part)
        lines = map(Text, difference_lines(part))
        for line in (Text(grid.caption, style="bold"), *grid_tables(grid, width), *lines):
            console.print(line, soft_wrap=True)
    for part in (part for part in parts(results) if part.results.verdicts):
        console.print(Text(verdict_heading(part), style="bold"), soft_wrap=True)
        for told in verdict_lines(part):
            console.print(Text(told), soft_wrap=True)
