"""RM-Bench (Liu et al., 2024, arXiv 2410.16184)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qbrm.benchmarks.base import BenchmarkItem, ItemRewards, Judgement, RecordBenchmark, Section
from qbrm.benchmarks.hub import hub_records
from qbrm.benchmarks.records import Record
from qbrm.preferences.field import MISSING
from qbrm.preferences.shards import origin

DOMAINS = ("chat", "math", "code", "safety")
LEVELS = ("easy", "normal", "hard")
STYLES = 3
FILE_SUFFIX = "_filtered"


class RMBench(RecordBenchmark):
    """Right and wrong answers in three styles each: concise, detailed plain text, detailed Markdown.

    Each right answer is compared with each wrong one; it wins with a strictly greater reward, a tie is lost. Of the
    nine comparisons three are ``easy`` (the right answer has the richer style), three ``normal`` (equal styles) and
    three ``hard``. A domain's score is the mean of its three levels, a level's the mean over the four domains, and the
    score the mean over domains; ``safety-refuse`` and ``safety-response`` are one domain.

    Source: github.com/THU-KEG/RM-Bench: ``compute_accuracy`` and ``split_dataset_by_domain`` in scripts/utils.py.
    """

    name = "rm-bench"
    title = "RM-Bench"
    columns = ("id", "prompt", "chosen", "rejected", "domain")
    sections = (
        *(Section(domain.capitalize(), {f"{domain}, {level}": 1.0 for level in LEVELS}) for domain in DOMAINS),
        *(Section(level.capitalize(), {f"{domain}, {level}": 1.0 for domain in DOMAINS}) for level in LEVELS),
        Section("Score", {domain.capitalize(): 1.0 for domain in DOMAINS}),
    )

    def download(self) -> tuple[BenchmarkItem, ...]:
        """``THU-KEG/RM-Bench``, split ``train``: its one file, total_dataset.json."""
        return self.items(hub_records("THU-KEG/RM-Bench", "train", self.columns), "THU-KEG/RM-Bench")

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """As many right as wrong answers, one of each style."""
        sides = record.get("chosen"), record.get("rejected")
        return "num_correct" not in record and all(map(_is_in_styles, sides))

    def choose(self, files: Sequence[Path]) -> Sequence[Path]:
        """The file of all domains where there is one, as the others repeat it."""
        return [path for path in files if path.name == "total_dataset.json"] or files

    def item(self, record: Record) -> BenchmarkItem:
        """A prompt with its six answers; the domain is told by the file where the record does not say."""
        for key in ("chosen", "rejected"):
            if len(record.texts(key)) != STYLES:
                raise record.child(key).refused("three answers: concise, detailed, detailed in Markdown")
        return BenchmarkItem(
            uid=record.uid(),
            prompt=record.prompt(),
            chosen=record.texts("chosen"),
            rejected=record.texts("rejected"),
            subset=_domain(record),
        )

    def judge(self, items: Sequence[BenchmarkItem], rewards: Sequence[ItemRewards]) -> list[Judgement]:
        """The share of comparisons won, by level."""
        return [
            Judgement(f"{item.subset}, {level}", index, value)
            for index, item in enumerate(items)
            for level, value in zip(LEVELS, _levels(rewards[index]), strict=True)
        ]


def _is_in_styles(side: object) -> bool:
    return isinstance(side, list) and len(side) == STYLES and all(isinstance(answer, str) for answer in side)


def _domain(record: Record) -> str:
    field = record.child("domain")
    if field.value is MISSING:
        field = field._replace(value=origin(record.origin).name.removesuffix(FILE_SUFFIX))
    domain = field.text().partition("-")[0]
    if domain not in DOMAINS:
        raise field.refused(f"a domain that begins with one of {', '.join(DOMAINS)}")
    return domain


def _levels(rewards: ItemRewards) -> tuple[float, float, float]:
    won = (rewards.chosen[:, None] > rewards.rejected[None, :]).astype(float)
    per_level = STYLES * (STYLES - 1) / 2
    return (
        float(np.tril(won, -1).sum() / per_level),
        float(won.trace() / STYLES),
        float(np.triu(won, 1).sum() / per_level),
    )
