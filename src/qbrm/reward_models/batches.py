"""Batches of texts of similar length, no larger than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from qbrm.errors import InputError

Result = TypeVar("Result")

# PyTorch raises a RuntimeError of its own for each kind of memory; only these words are common to all.
EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory")


def length_sorted_batches(
    lengths: Sequence[int], budget: int, before: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Split the indices of `lengths`, in tokens, into batches of similar length, longest first.

    A batch has at most `budget` tokens after padding; a longer text is a batch of its own.

    Args:
        lengths: tokens of each text that go through the model.
        budget: most tokens in a batch.
        before: tokens in front of each that went through it earlier and are looked at again; None for none.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and padded_tokens([*batch, index], lengths, before) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded_tokens(batch: Sequence[int], lengths: Sequence[int], before: Sequence[int] | None = None) -> int:
    """Tokens of a batch after padding, those in front of its texts included."""
    longest = max(lengths[index] for index in batch)
    return len(batch) * (longest if before is None else longest + max(before[index] for index in batch))


class TokenBudget:
    """Most padded tokens that go through a model at once: as many as asked for, fewer once memory ran out."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def run(
        self,
        lengths: Sequence[int],
        forward: Callable[[list[int]], Result],
        before: Sequence[int] | None = None,
    ) -> Iterator[tuple[list[int], Result]]:
        """Call `forward` on length-sorted batches; a batch that exhausts the memory is halved, and later ones too.

        Args:
            lengths: number of tokens of each text.
            forward: takes indices into `lengths`; its result is yielded with them.
            before: see :func:`length_sorted_batches`.

        Raises:
            InputError: if a single text exhausts the memory.
        """
        waiting = list(length_sorted_batches(lengths, self.tokens, before))[::-1]
        while waiting:
            batch = waiting.pop()
            padded = padded_tokens(batch, lengths, before)
            if padded <= self.tokens or len(batch) == 1:
                try:
                    result = forward(batch)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                else:
                    yield batch, result
                    continue
                # Here, not in the except clause: the error holds on to the tensors of the failed pass.
                self._shrink(batch, padded)
            half = (len(batch) + 1) // 2
            waiting += [batch[half:], batch[:half]]

    def _shrink(self, batch: list[int], padded: int) -> None:
        if len(batch) == 1:
            raise InputError(f"one text of {padded:,} tokens runs out of memory; expected a lower maximum length.")
        self.tokens = max(padded // 2, 1)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error).lower() for words in EXHAUSTED
    )
