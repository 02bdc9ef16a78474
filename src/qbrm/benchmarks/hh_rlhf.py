"""Anthropic's helpful and harmless preferences (Bai et al., 2022, arXiv 2204.05862)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import BenchmarkItem, RecordBenchmark, shown
from qbrm.benchmarks.hub import hub_records
from qbrm.benchmarks.records import Record
from qbrm.preferences.shards import origin
from qbrm.preferences.transcript import is_transcript, split_pair

REPOSITORY = "Anthropic/hh-rlhf"
SUBSETS = ("helpful-base", "helpful-rejection-sampled", "helpful-online", "harmless-base")
GOALS = ("Helpful", "Harmless")


class HHRLHF(RecordBenchmark):
    r"""Pairs of transcripts, ``\n\nHuman: ... \n\nAssistant: ...``.

    The prompt is the turns that both transcripts share, the response what follows in each: nearly always one answer of
    the assistant; where transcripts part earlier, the turns after that too, as they are written. A pair is right if the
    chosen response has strictly the greater reward; a tie is wrong. The table has the accuracy over the helpful, the
    harmless and all test pairs. There is no official scoring script; the paper reports accuracies on the test splits.
    """

    name = "hh-rlhf"
    title = "Anthropic HH"
    columns = ("chosen", "rejected")
    sections = shown(*GOALS, "All pairs")
    optional = frozenset(GOALS)

    def download(self) -> tuple[BenchmarkItem, ...]:
        """``Anthropic/hh-rlhf``, split ``test`` of the four preference sets."""
        sets = (hub_records(REPOSITORY, "test", self.columns, data_dir=subset) for subset in SUBSETS)
        return self.items(chain.from_iterable(sets), REPOSITORY)

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Two transcripts."""
        return "prompt" not in record and all(is_transcript(record.get(side)) for side in ("chosen", "rejected"))

    def choose(self, files: Sequence[Path]) -> Sequence[Path]:
        """Test splits, if there are any; never the red-team transcripts, which are no preferences."""
        pairs = [path for path in files if path.parent.name != "red-team-attempts"]
        return [path for path in pairs if origin(path).name == "test"] or pairs

    def item(self, record: Record) -> BenchmarkItem:
        """A pair; its subset is the folder's name, or the file's."""
        folder = record.origin.parent.name
        prompt, chosen, rejected = split_pair(record.child("chosen"), record.child("rejected"))
        subset = folder if folder in SUBSETS else record.origin.name
        return BenchmarkItem(record.uid(), prompt, (chosen,), (rejected,), subset)

    def groups(self, item: BenchmarkItem) -> Sequence[str]:
        """All pairs, the pair's goal and its subset."""
        goal = item.subset.partition("-")[0].capitalize()
        return ["All pairs", goal if item.subset in SUBSETS else item.subset, item.subset]
