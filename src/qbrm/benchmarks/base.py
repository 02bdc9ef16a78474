"""What a benchmark is: items to be judged, and the official score as weighted means of those judgements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from qbrm.benchmarks.records import Record, read_file
from qbrm.errors import InputError
from qbrm.preferences import Preference, PreferenceSet, Prompt, prompt_id
from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.files import is_folder
from qbrm.preferences.quoting import one_line
from qbrm.preferences.shards import data_files


@dataclass(frozen=True)
class BenchmarkItem:
    """A prompt with responses that are right and responses that are wrong.

    Attributes:
        uid: identifier, as the benchmark has it.
        prompt: the conversation up to the response.
        chosen: one or more responses that should be preferred, in the benchmark's order.
        rejected: one or more that should not.
        subset: the part of the benchmark that it belongs to.
    """

    uid: str
    prompt: Prompt
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    subset: str

    @cached_property
    def prompt_id(self) -> str:
        """Content hash of the prompt."""
        return prompt_id(self.prompt)


class ItemRewards(NamedTuple):
    """The rewards of one item's responses, in the item's order."""

    chosen: Float[np.ndarray, " chosen"]
    rejected: Float[np.ndarray, " rejected"]


class Judgement(NamedTuple):
    """How one item did in one respect.

    Attributes:
        group: what it is averaged with.
        item: index of the item.
        value: 1 for right, 0 for wrong, or what the benchmark gives in between.
    """

    group: str
    item: int
    value: float


@dataclass(frozen=True)
class Section:
    """One line of the official table: a weighted mean of groups or of earlier sections.

    Attributes:
        name: as the benchmark calls it.
        weights: of its parts. Parts that a source does not have are left out of the mean.
        total: whether it is a plain weighted sum instead, which needs all of its parts.
    """

    name: str
    weights: Mapping[str, float]
    total: bool = False


def shown(*groups: str) -> tuple[Section, ...]:
    """Groups that are lines of the official table as they are."""
    return tuple(Section(group, {group: 1.0}) for group in groups)


class Benchmark(ABC):
    """A benchmark's layout and its official score.

    Attributes:
        name: as users type it.
        title: as its authors write it.
        sections: the official table, in an order in which parts come before what is made of them.
        optional: sections without which the table counts as whole.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    sections: ClassVar[tuple[Section, ...]] = ()
    optional: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def read(self, source: Path) -> tuple[BenchmarkItem, ...]:
        """Read a file or folder in the benchmark's layout.

        Raises:
            InputError: if it is not in that layout; names file, line and key.
        """

    @abstractmethod
    def download(self) -> tuple[BenchmarkItem, ...]:
        """Get the benchmark from where its authors publish it.

        Raises:
            InputError: if the package ``datasets`` or the network is not there.
        """

    @abstractmethod
    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Whether the first record of a source looks like one of this benchmark's."""

    def judge(self, items: Sequence[BenchmarkItem], rewards: Sequence[ItemRewards]) -> list[Judgement]:
        """Judge every item by the official rule, ties included: here its value, in each of its groups."""
        return [
            Judgement(group, index, self.value(rewards[index]))
            for index, item in enumerate(items)
            for group in dict.fromkeys(self.groups(item))
        ]

    def groups(self, item: BenchmarkItem) -> Sequence[str]:
        """What the item is averaged with."""
        return [item.subset]

    def value(self, rewards: ItemRewards) -> float:
        """1 if every chosen response has a strictly greater reward than every rejected one, else 0: a tie is wrong."""
        return float(rewards.chosen.min() > rewards.rejected.max())

    def cluster(self, item: BenchmarkItem) -> str:
        """What is resampled together when intervals are made: all items on one prompt."""
        return item.prompt_id


class RecordBenchmark(Benchmark):
    """A benchmark that is kept as records, one item each, of which `columns` are read."""

    columns: ClassVar[tuple[str, ...]] = ("id", "prompt", "chosen", "rejected", "subset")

    def read(self, source: Path) -> tuple[BenchmarkItem, ...]:
        """Read a file, or the files of a folder that belong to the benchmark."""
        files = self.choose(data_files(source)) if is_folder(source) else [source]
        return self.items((record for path in files for record in read_file(path, self.columns)), one_line(source))

    def choose(self, files: Sequence[Path]) -> Sequence[Path]:
        """Those files of a folder that belong to the benchmark; here all."""
        return files

    @abstractmethod
    def item(self, record: Record) -> BenchmarkItem:
        """What a record says.

        Raises:
            InputError: if the record is not in the benchmark's layout.
        """

    def items(self, records: Iterable[Record], where: str) -> tuple[BenchmarkItem, ...]:
        """The items of records.

        Raises:
            InputError: if records are wrong, of which the first twenty are named, or there is none.
        """
        rejects = Rejects()
        items = tuple(rejects.read(records, self._sound_item))
        if not items and not rejects.kinds:
            raise InputError(f"{where} holds no item of {self.title}; expected its published files.")
        rejects.check(where, len(items))
        return items

    def _sound_item(self, record: Record) -> BenchmarkItem:
        if record.fault is not None:
            raise record.fault
        return self.item(record)


def as_preferences(name: str, items: Iterable[BenchmarkItem]) -> PreferenceSet:
    """The items as preferences, one for each chosen response over all of the item's rejected ones."""
    return PreferenceSet(
        name,
        tuple(
            Preference(
                item.uid if len(item.chosen) == 1 else f"{item.uid}#{number}",
                item.prompt,
                chosen,
                item.rejected,
                category=item.subset,
                set="pairwise" if len(item.rejected) == 1 else "bon",
            )
            for item in items
            for number, chosen in enumerate(item.chosen)
        ),
    )
