"""Mark the best of a column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from qbrm.tables.grid import Column


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
