"""Anthropic's helpful and harmless preferences (Bai et al., 2022, arXiv 2204.05862)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import BenchmarkItem, RecordBenchmark, shown
from qbrm.benchmarks.hub import hub_records
from qbrm.benchmarks.records import Record, origin
from qbrm.preferences import Message, Prompt
from qbrm.preferences.field import Field

REPOSITORY = "Anthropic/hh-rlhf"
SUBSETS = ("helpful-base", "helpful-rejection-sampled", "helpful-online", "harmless-base")
GOALS = ("Helpful", "Harmless")
ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant):")


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
        sides = record.get("chosen"), record.get("rejected")
        return "prompt" not in record and all(isinstance(side, str) and TURN.match(side) for side in sides)

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


def split_pair(chosen: Field, rejected: Field) -> tuple[Prompt, str, str]:
    """The turns that two transcripts share, and what follows in each.

    Raises:
        InputError: if one of them is no transcript, or they share no turn before an answer of the assistant.
    """
    a, b = _turns(chosen), _turns(rejected)
    shared = 0
    while shared < min(len(a), len(b)) - 1 and a[shared] == b[shared]:
        shared += 1
    while shared and not a[shared].role == b[shared].role == "assistant":
        shared -= 1
    if not shared:
        raise chosen.refused('a transcript that shares turns before an answer with "rejected"', "stands alone")
    return a[:shared], _text(a[shared:]), _text(b[shared:])


def _turns(transcript: Field) -> Prompt:
    pieces = TURN.split(transcript.string())
    if pieces[0].strip() or len(pieces) < 5:
        raise transcript.refused(r'a transcript of "\n\nHuman:" and "\n\nAssistant:" turns')
    pairs = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(ROLES[speaker], text.strip()) for speaker, text in pairs)


def _text(turns: Prompt) -> str:
    """What the assistant says, and further turns with their speakers."""
    speaker = {role: name for name, role in ROLES.items()}
    first, *rest = turns
    return "".join([first.content, *(f"\n\n{speaker[turn.role]}: {turn.content}" for turn in rest)])
