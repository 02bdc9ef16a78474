"""A user's own preferences, as a benchmark without an official score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import Benchmark, BenchmarkItem, shown
from qbrm.errors import InputError
from qbrm.preferences import PreferenceSet, SetName, read_preferences

SETS: dict[SetName, str] = {"pairwise": "pairwise", "bon": "best-of-n"}


class Preferences(Benchmark):
    """Preferences of one's own, in any layout that :func:`qbrm.read_preferences` reads.

    The table has the accuracy over pairs and over best-of-n items, which have several rejected responses, and by
    category. An item is right if the chosen response has a strictly greater reward than every rejected one; a tie is
    wrong, as in RMB.
    """

    name = "preferences"
    title = "preferences"
    sections = shown(*SETS.values())
    optional = frozenset(SETS.values())

    def read(self, source: Path) -> tuple[BenchmarkItem, ...]:
        """Any preference source."""
        return as_items(read_preferences(source))

    def download(self) -> tuple[BenchmarkItem, ...]:
        """There is nothing to download."""
        raise InputError("preferences are no published benchmark; expected a path, as in preferences:prefs.jsonl.")

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """The two answers; the prompt may be what they begin with."""
        return {"chosen", "rejected"} <= record.keys()

    def groups(self, item: BenchmarkItem) -> Sequence[str]:
        """The item's set, and its category."""
        return [category_and_set(item)[1], item.subset]


def as_items(preferences: PreferenceSet) -> tuple[BenchmarkItem, ...]:
    """Preferences as items; a subset is a category and a set, as in ``Helpfulness/Chat, best-of-n``."""
    return tuple(
        BenchmarkItem(item.uid, item.prompt, (item.chosen,), item.rejected, f"{item.category}, {SETS[item.set]}")
        for item in preferences
    )


def category_and_set(item: BenchmarkItem) -> tuple[str, str]:
    """The category and the set from which :func:`as_items` made the subset."""
    category, _, kind = item.subset.rpartition(", ")
    return category, kind
