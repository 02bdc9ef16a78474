"""RMB (Zhou et al., 2024, arXiv 2410.09893)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import Benchmark, BenchmarkItem, Section, shown
from qbrm.benchmarks.hub import download_archive
from qbrm.benchmarks.preferences import as_items, category_and_set
from qbrm.preferences import read_preferences

ARCHIVE = "https://github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark/archive/refs/heads/main.zip"
FOLDER = "RMB-Reward-Model-Benchmark-main/RMB_dataset"
GOALS = ("Helpfulness", "Harmlessness")
PARTS = tuple(f"{goal}, {kind}" for goal in GOALS for kind in ("best-of-n", "pairwise"))


class RMB(Benchmark):
    """Pairs, and best-of-n items with two or more rejected responses, for two alignment goals.

    An item is right if the chosen response has a strictly greater reward than every rejected one; a tie is wrong. The
    table has the accuracy of each goal and set over all of its items; the score is the mean of these four, as in
    table 3 of the paper.

    Source: the paper's section on evaluation metrics, and github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark,
    eval/scripts/my_run_rm.py. Its eval/scripts/my_run_bon.py, unlike the paper, gives a best-of-n tie to the response
    that comes first.
    """

    name = "rmb"
    title = "RMB"
    sections = (*shown(*PARTS), Section("Score", dict.fromkeys(PARTS, 1.0)))

    def read(self, source: Path) -> tuple[BenchmarkItem, ...]:
        """An RMB tree, or one of its files."""
        return as_items(read_preferences(source))

    def download(self) -> tuple[BenchmarkItem, ...]:
        """The repository on GitHub; RMB is not on the Hugging Face Hub."""
        return self.read(download_archive(ARCHIVE) / FOLDER)

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """An item of either set."""
        return "bon_uid" in record or "pair_uid" in record

    def groups(self, item: BenchmarkItem) -> Sequence[str]:
        """The item's goal and set, and its category."""
        category, kind = category_and_set(item)
        return [f"{category.partition('/')[0]}, {kind}", item.subset]
