"""Grids on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from qbrm.tables.grid import Column, Grid

PLAIN_WIDTH = 120
GAP = 2


def grid_tables(grid: Grid, width: int) -> list[Table]:
    """The grid as tables no wider than `width`: columns that do not fit go on in the next, labels repeated."""
    return [_table(grid, columns) for columns in _fitting(grid, width)]


def _fitting(grid: Grid, width: int) -> Iterator[Sequence[Column]]:
    label_width = _width(Column(grid.corner, grid.labels))
    chosen: list[Column] = []
    used = label_width
    for column in grid.columns:
        needed = GAP + _width(column)
        if chosen and used + needed > width:
            yield chosen
            chosen, used = [], label_width
        chosen.append(column)
        used += needed
    yield chosen


def _table(grid: Grid, columns: Sequence[Column]) -> Table:
    chosen = [Column(grid.corner, grid.labels), *columns]
    width = sum(map(_width, chosen)) + GAP * len(columns)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), width=width)
    table.add_column(Text(grid.corner), no_wrap=True)
    for column in columns:
        table.add_column(Text(column.heading), justify="right", no_wrap=True)
    for row in range(len(grid.labels)):
        table.add_row(*(_cell(column, row) for column in chosen))
    return table


def _cell(column: Column, row: int) -> Text:
    return Text(column.cells[row], style="bold green" if row in column.best else "")


def _width(column: Column) -> int:
    return max(map(cell_len, (column.heading, *column.cells)))
