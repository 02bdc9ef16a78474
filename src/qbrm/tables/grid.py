"""Tables of text, before they are laid out for a terminal, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        heading: what stands above it.
        cells: its texts, from top to bottom.
        best: rows that hold the best value.
    """

    heading: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Grid:
    """A table with a label for each row.

    Args:
        caption: what the table shows.
        corner: heading of the labels.
        labels: one per row.
        columns: what stands beside the labels.
    """

    caption: str
    corner: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]


def column(heading: str, cells: Iterable[str]) -> Column:
    """A column in which nothing is best."""
    return Column(heading, tuple(cells))


def contest(
    heading: str,
    values: Sequence[float | None],
    cells: Iterable[str],
    choose: Callable[[Iterable[float]], float] = max,
) -> Column:
    """A column whose best values are marked, if there are different ones.

    Args:
        heading: what stands above it.
        values: the numbers, None where absent.
        cells: their texts.
        choose: `max` where more is better, `min` where less is.
    """
    present = {value for value in values if value is not None}
    best = choose(present) if len(present) > 1 else None
    marked = frozenset(row for row, value in enumerate(values) if value is not None and value == best)
    return Column(heading, tuple(cells), marked)
