"""What paired differences say, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qbrm.report import Results
from qbrm.report.numbers import points
from qbrm.report.parts import Part, parts
from qbrm.report.results import Difference, SetName


def whole_parts(results: Results) -> list[Part]:
    """The parts that are about whole tests: none of a shift's domains apart."""
    return [part for part in parts(results) if ", " not in part.test]


def difference_of(part: Part, method: str, reference: str, set_name: SetName = "pairwise") -> Difference | None:
    """A part's paired difference over all categories, if it is there."""
    wanted = {"method": method, "reference": reference, "set": set_name, "category": "all"}
    return next((row for row in part.results["differences"] if wanted.items() <= row.items()), None)


def is_above(row: Difference | None) -> bool:
    """Whether the difference is above zero beyond its interval."""
    return row is not None and row["ci_low"] is not None and row["ci_low"] > 0


def is_below(row: Difference | None) -> bool:
    """Whether the difference is below zero beyond its interval."""
    return row is not None and row["ci_high"] is not None and row["ci_high"] < 0


def standing(found: Sequence[Part], method: str, reference: str) -> str:
    """Where a method is above a reference, where below and where neither, as one sentence.

    Args:
        found: the parts to judge by.
        method: which method.
        reference: ``base`` or ``mlp``.
    """
    rows = {part.name: difference_of(part, method, reference) for part in found}
    known = {name: row for name, row in rows.items() if row is not None}
    if not known:
        return f"Against `{reference}` nothing was measured."
    above = [name for name, row in known.items() if is_above(row)]
    below = [name for name, row in known.items() if is_below(row)]
    neither = [name for name in known if name not in (*above, *below)]
    kinds = (("above it", above), ("not told apart from it", neither), ("below it", below))
    told = [f"{words} in {_named(names, known)}" for words, names in kinds if names]
    rest = "" if below else "; below it nowhere"
    return f"Against `{reference}`, `{method}` is " + "; ".join(told) + rest + "."


def listed(words: Iterable[str]) -> str:
    """Words with commas, and a last "and"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _named(names: Sequence[str], rows: dict[str, Difference]) -> str:
    return listed(f"{name} ({points(rows[name]['difference'])})" for name in names)
