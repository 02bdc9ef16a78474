"""LLMBar (Zeng et al., 2023, arXiv 2310.07641)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import BenchmarkItem, ItemRewards, RecordBenchmark, Section, shown
from qbrm.benchmarks.hub import download_archive
from qbrm.benchmarks.records import Record
from qbrm.preferences.conversation import read_prompt

ARCHIVE = "https://github.com/princeton-nlp/LLMBar/archive/refs/heads/main.zip"
FOLDER = "LLMBar-main/Dataset/LLMBar"
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
SUBSETS = ("Natural", *ADVERSARIAL)


class LLMBar(RecordBenchmark):
    """Instructions with two outputs, of which one follows the instruction.

    An instance scores 1 if the right output has the greater reward, 1/2 if both have the same, and 0 otherwise: a rater
    is asked in both orders and, where its ratings tie, is right in one of them. ``Adversarial`` is the mean of its four
    subsets, each of which the published script scores by itself.

    Source: github.com/princeton-nlp/LLMBar: ``annotate`` (the Rating evaluators) and ``correct_average`` in
    LLMEvaluator/evaluate.py.
    """

    name = "llmbar"
    title = "LLMBar"
    columns = ("input", "output_1", "output_2", "label")
    sections = (*shown(*SUBSETS), Section("Adversarial", dict.fromkeys(ADVERSARIAL, 1.0)))

    def download(self) -> tuple[BenchmarkItem, ...]:
        """The repository on GitHub; the Hub has only a script that fetches it from there."""
        return self.read(download_archive(ARCHIVE) / FOLDER)

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Two outputs and a label."""
        return set(self.columns) <= record.keys()

    def choose(self, files: Sequence[Path]) -> Sequence[Path]:
        """The files of the five subsets, each ``dataset.json`` in a folder of its own."""
        return [path for path in files if path.name == "dataset.json" and path.parent.name in SUBSETS]

    def item(self, record: Record) -> BenchmarkItem:
        """An instance; its subset is the folder's name."""
        label = record.child("label")
        if label.value not in (1, 2):
            raise label.refused("1 or 2")
        outputs = record.text("output_1"), record.text("output_2")
        right = 0 if label.value == 1 else 1
        folder = record.field._replace(path="folder", value=record.origin.parent.name)
        if folder.value not in SUBSETS:
            raise folder.refused(f"one of {', '.join(SUBSETS)}")
        return BenchmarkItem(
            uid=f"{folder.value}:{record.number}",
            prompt=read_prompt(record.child("input")),
            chosen=(outputs[right],),
            rejected=(outputs[1 - right],),
            subset=str(folder.value),
        )

    def value(self, rewards: ItemRewards) -> float:
        """1 if the right output has the greater reward, 1/2 if both have the same, else 0."""
        right, wrong = rewards.chosen[0], rewards.rejected[0]
        return 0.5 if right == wrong else float(right > wrong)
