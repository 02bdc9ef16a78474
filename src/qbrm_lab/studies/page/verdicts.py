"""What paired differences say, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qbrm_lab.report.parts import Part, parts
from qbrm_lab.results import Results, SetName
from qbrm_lab.results.rows import Difference, is_above, is_below


def whole_parts(results: Results) -> list[Part]:
    """The parts that are about whole tests: none of a shift's domains apart."""
    return [part for part in parts(results) if part.domain is None]


def difference_of(part: Part, method: str, reference: str, set_name: SetName = "pairwise") -> Difference | None:
    """A part's paired difference over all categories, if it is there."""
    wanted = method, reference, set_name, "all"
    rows = part.results.differences
    return next((row for row in rows if (row.method, row.reference, row.set, row.category) == wanted), None)


class Standing(NamedTuple):
    """Parts in which a method is above a reference beyond the interval, not told apart from it, and below it.

    Attributes:
        above: differences by the name of the part.
        neither: likewise.
        below: likewise.
    """

    above: dict[str, Difference]
    neither: dict[str, Difference]
    below: dict[str, Difference]


def standing(of_parts: Sequence[Part], method: str, reference: str) -> Standing:
    """Where a method stands against a reference, in the parts that have both."""
    rows = {part.name: difference_of(part, method, reference) for part in of_parts}
    known = {name: row for name, row in rows.items() if row is not None}
    above = {name: row for name, row in known.items() if is_above(row)}
    below = {name: row for name, row in known.items() if is_below(row)}
    return Standing(above, {name: known[name] for name in known if name not in above | below}, below)


def listed(words: Iterable[str]) -> str:
    """Words with commas, and a last "and"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
