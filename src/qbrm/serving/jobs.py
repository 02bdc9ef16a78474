"""What requests ask of the model, and how a batch takes rows of them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from qbrm.model.conversation import PromptLike, as_prompt
from qbrm.model.distribution import RewardDistribution

Item = TypeVar("Item")

# Text is not tokenised to be counted; this is usual for English, and for other languages in UTF-8.
BYTES_PER_TOKEN = 4


class Row(NamedTuple):
    """One response, its prompt, and about how many tokens the model reads of both."""

    prompt: PromptLike
    response: str
    tokens: int


@dataclass(eq=False)
class Job(Generic[Item]):
    """What one request asks; the worker thread calls `answer` on its rows of every batch that has some.

    Attributes:
        rows: responses and prompts.
        answer: makes a list of a distribution, with one item per row unless the job is whole.
        whole: whether all rows have to be in one batch.
        future: receives all items, in the order of the rows.
        taken: how many rows are in batches already.
        items: what they gave.
    """

    rows: Sequence[Row]
    answer: Callable[[RewardDistribution], Sequence[Item]]
    whole: bool
    future: asyncio.Future[list[Item]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    taken: int = 0
    items: list[Item] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the request is answered, has failed or has given up."""
        return self.future.done() or self.taken == len(self.rows)

    @property
    def turn(self) -> slice:
        """The rows that it gives to a batch when its turn comes: one, or all if it is whole."""
        return slice(self.taken, len(self.rows) if self.whole else self.taken + 1)


class Piece(NamedTuple):
    """Rows of one job that go through the model together."""

    job: Job[Any]
    rows: slice

    def __len__(self) -> int:
        return len(range(self.rows.start, self.rows.stop))


class Batch:
    """Rows of several jobs, in pieces that are added to as their jobs take turns.

    Attributes:
        rows: how many.
        tokens: about how many.
    """

    def __init__(self) -> None:
        self._starts: dict[Job[Any], int] = {}
        self.rows = self.tokens = 0

    def __bool__(self) -> bool:
        return self.rows > 0

    @property
    def pieces(self) -> list[Piece]:
        """One for each job."""
        return [Piece(job, slice(start, job.taken)) for job, start in self._starts.items()]

    def take(self, job: Job[Any], most_rows: int, most_tokens: float, most_again: float) -> bool:
        """Let a job take its turn, and say whether there was room; in an empty batch there always is."""
        turn = job.turn
        rows, tokens = turn.stop - turn.start, sum(row.tokens for row in job.rows[turn])
        if job in self._starts:
            most_tokens = most_again
        if self and (self.rows + rows > most_rows or self.tokens + tokens > most_tokens):
            return False
        self._starts.setdefault(job, turn.start)
        job.taken = turn.stop
        self.rows, self.tokens = self.rows + rows, self.tokens + tokens
        return True


def rows_of(prompts: Sequence[PromptLike], responses: Sequence[str], longest: int) -> list[Row]:
    """Rows of a request to a model that reads at most `longest` tokens of each; 0 for all."""
    counted: dict[int, int] = {}  # a prompt is often the same object for several responses
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        of_prompt = counted.get(id(prompt)) or counted.setdefault(id(prompt), _bytes_of(prompt))
        tokens = 1 + (of_prompt + _bytes_of(response)) // BYTES_PER_TOKEN
        rows.append(Row(prompt, response, min(tokens, longest or tokens)))
    return rows


def _bytes_of(text: PromptLike) -> int:
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return sum(_bytes_of(message.text) for message in as_prompt(text))
