"""Tables of text, before they are laid out for a terminal, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: its heading, its texts from top to bottom, and the rows that hold the best value."""

    heading: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Grid:
    """A table with a caption and a label for each row; `corner` is the heading of the labels."""

    caption: str
    corner: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]


def column(heading: str, cells: Iterable[str]) -> Column:
    """A column in which nothing is best."""
    return Column(heading, tuple(cells))
