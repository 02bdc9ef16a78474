"""What is wrong with a source, all of it at once: rows that are no preferences, named and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from qbrm.errors import BadRowError, BadRowsError
from qbrm.preferences.quoting import one_line

MOST_NAMED = 20

Row = TypeVar("Row")
Result = TypeVar("Result")


class Rejects:
    """Collects the bad rows of a source while the others are read.

    Attributes:
        kinds: how many bad rows there are, by what is wrong with them.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self._first: list[BadRowError] = []

    def read(self, rows: Iterable[Row], read: Callable[[Row], Result]) -> Iterator[Result]:
        """What `read` makes of each row; rows at which it raises `BadRowError` are collected instead."""
        for row in rows:
            try:
                result = read(row)
            except BadRowError as error:
                self._add(error)
            else:
                yield result

    def check(self, name: str, good: int, hint: str = "") -> None:
        """Refuse a source that has bad rows.

        Args:
            name: of the source.
            good: how many of its rows are not bad.
            hint: what can be done, a sentence for the end of the message.

        Raises:
            BadRowError: if a single row is bad.
            BadRowsError: if several are; names the first twenty, and how many more there are.
        """
        bad = self.kinds.total()
        if bad == 1:
            (only,) = self._first
            raise BadRowError(f"{only} {hint}".rstrip(), only.kind)
        if bad:
            share = f"{bad:,} of {bad + good:,} rows of {one_line(name)} are bad:"
            more = [f"and {bad - MOST_NAMED:,} more."] if bad > MOST_NAMED else []
            raise BadRowsError([share, *map(str, self._first), *more, *([hint] if hint else [])])

    def _add(self, error: BadRowError) -> None:
        self.kinds[error.kind] += 1
        if len(self._first) < MOST_NAMED:
            self._first.append(error)
