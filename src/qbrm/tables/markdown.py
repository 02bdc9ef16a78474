"""Grids in Markdown."""

from __future__ import annotations

from qbrm.tables.grid import Column, Grid


def markdown_grid(grid: Grid) -> str:
    """A grid as a table, best values bold."""
    columns = [Column(grid.corner, grid.labels), *grid.columns]
    lines = [[escaped(column.heading) for column in columns], [":--", *["--:"] * len(grid.columns)]]
    lines += [[_cell(column, row) for column in columns] for row in range(len(grid.labels))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: Column, row: int) -> str:
    cell = escaped(column.cells[row])
    return f"**{cell}**" if row in column.best else cell


def escaped(text: str) -> str:
    """Text without what Markdown would read as markup."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\|*_`<"})
