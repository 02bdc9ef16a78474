"""Batches of concurrent requests for one worker thread, the only one that uses the model."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from qbrm.errors import InputError
from qbrm.model.conversation import PromptLike
from qbrm.model.distribution import RewardDistribution
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.serving.jobs import Batch, Job, Piece, rows_of
from qbrm.serving.metrics import Metrics
from qbrm.serving.settings import Limits

Item = TypeVar("Item")

PATIENT_SHARE, MOST_PATIENT_SECONDS = 0.1, 0.1
# A batch with several responses of a request takes the model about this long at most, so that a short request never
# waits long behind a large one. One response of each is not limited so: to part them would make all wait longer.
TURNS_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60
# The pace of smaller batches says little about that of large ones.
TELLING_TOKENS = 512

logger = logging.getLogger(__name__)


class OverloadedError(Exception):
    """More is waiting for the model than it can answer in time.

    Attributes:
        retry_seconds: after how long there is likely to be room.
    """

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class ModelError(Exception):
    """The model failed on a request, or its answer is not a number."""


class Model(Protocol):
    """What the server needs of a model: :class:`qbrm.EnergyRewardModel` has it."""

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> RewardDistribution:
        """The distribution of the reward of response i as an answer to prompt i."""


Outcome: TypeAlias = Sequence[Any] | Exception


class Batcher:
    """Dynamic batching: a batch closes when it is full, or when its first request has waited long enough.

    While the model works on one batch the next one collects. Full batches are worth a wait: clients that ask again as
    soon as they are answered would otherwise fall into two groups that take turns in half batches for ever. So a batch
    waits up to a tenth of what the last one took, and of a second, where that is longer than its usual patience.

    Requests take turns: a batch takes one response of each that waits, then another, until it is full. It is full at a
    number of responses or of tokens, and takes no second response of a request beyond what the model does in a second.
    A request whose client has left takes no further turn. An error of the model in a batch of several is traced, by
    halving, to the request that causes it, whatever the error; an answer that is not a number is one.

    Args:
        model: only ever called from the worker thread, one call at a time.
        limits: size and patience of batches, how many tokens may wait, how long for.
        metrics: told of every batch.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._longest = model.reward_model.identity.max_length if isinstance(model, EnergyRewardModel) else 0
        self._jobs: deque[Job[Any]] = deque()
        self._changed = Condition()
        self._stopping = False
        self._worker = self._new_worker()
        self._waiting_rows = self._waiting_tokens = 0
        self._last_seconds = 0.0
        self._tokens_per_second = math.inf
        self._busy_since: float | None = None

    def start(self) -> None:
        """Start the worker thread."""
        self._worker.start()

    async def stop(self) -> None:
        """Answer what waits, then end the worker thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._worker.join, self._limits.answer_seconds)

    @property
    def alive(self) -> bool:
        """Whether there is a thread that answers."""
        return self._worker.is_alive()

    @property
    def ready(self) -> bool:
        """Whether a request made now can expect an answer in time."""
        return self.alive and not self._stuck and self._waiting_tokens < self._limits.waiting_tokens

    async def ask(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[str],
        answer: Callable[[RewardDistribution], Sequence[Item]],
        *,
        whole: bool = False,
    ) -> list[Item]:
        """Wait for what `answer` makes of the distribution of these responses, in one part if `whole` or in several.

        Raises:
            OverloadedError: if too many tokens wait already for an answer in time.
            TimeoutError: if there is no answer within the limit.
            InputError: if the model refuses a prompt or response.
            ModelError: if the model fails on one.
        """
        if not responses:
            return []
        rows = rows_of(prompts, responses, self._longest)
        job, tokens = Job(rows, answer, whole), sum(row.tokens for row in rows)
        self._check_room(len(rows), tokens)
        self._count(len(rows), tokens)
        try:
            self._submit(job)
            return await asyncio.wait_for(job.future, self._limits.answer_seconds)
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"no answer within {self._limits.answer_seconds:g} s; try again later.") from error
        finally:
            self._count(-len(rows), -tokens)

    @property
    def _stuck(self) -> bool:
        """Whether the model has worked on one batch for longer than any request waits."""
        busy_since = self._busy_since
        return busy_since is not None and time.monotonic() - busy_since > self._limits.answer_seconds

    def _check_room(self, rows: int, tokens: int) -> None:
        """Refuse what finds too much waiting, or too much to be answered in time; alone, any request has room."""
        waiting = self._waiting_tokens
        too_much = waiting + tokens > self._limits.waiting_tokens or self._too_late(rows, tokens)
        if waiting and too_much:
            retry = min(max(1, math.ceil(waiting / self._tokens_per_second)), LONGEST_RETRY_SECONDS)
            told = f"{self._waiting_rows} responses of about {waiting} tokens are waiting already"
            raise OverloadedError(f"{told}; try again later.", retry)

    def _too_late(self, rows: int, tokens: int) -> bool:
        """Whether the time is not enough for these tokens and what has its turn before the last row of them."""
        if math.isinf(self._tokens_per_second):
            return False
        with self._changed:
            before = [job.rows[job.taken : job.taken + rows] for job in self._jobs if not job.ended]
        ahead = sum(row.tokens for part in before for row in part)
        return ahead + tokens > self._limits.answer_seconds * self._tokens_per_second

    def _count(self, rows: int, tokens: int) -> None:
        self._waiting_rows += rows
        self._waiting_tokens += tokens
        self._metrics.waiting.set(self._waiting_rows)

    def _submit(self, job: Job[Any]) -> None:
        if not self._worker.is_alive() and not self._stopping:
            self._worker = self._new_worker()
            self._worker.start()
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def _new_worker(self) -> Thread:
        return Thread(target=self._work, name="qbrm-model", daemon=True)

    def _work(self) -> None:
        """Answer batches until told to stop; whatever is raised ends one batch and not the thread."""
        while batch := self._collect():
            pieces, self._busy_since = batch.pieces, time.monotonic()
            try:
                self._answer(pieces)
            except BaseException as error:
                logger.exception("the serving thread starts again")
                _settle([(piece, _as_model_error(error)) for piece in pieces])
            self._note_pace(batch.tokens, time.monotonic() - self._busy_since)
            self._busy_since = None

    def _note_pace(self, tokens: int, seconds: float) -> None:
        self._last_seconds = seconds
        if tokens >= TELLING_TOKENS:
            before = 0.0 if math.isinf(self._tokens_per_second) else self._tokens_per_second
            self._tokens_per_second = max(tokens / max(seconds, 1e-9), before / 2)

    def _collect(self) -> Batch:
        """The next batch; empty when the server stops and nothing waits."""
        patience = max(self._limits.batch_seconds, min(PATIENT_SHARE * self._last_seconds, MOST_PATIENT_SECONDS))
        batch = Batch()
        with self._changed:
            while not self._fill(batch) and not batch and not self._stopping:
                self._changed.wait()
            closes = time.monotonic() + patience
            while batch and not self._fill(batch) and not self._stopping:
                left = closes - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
        return batch

    def _fill(self, batch: Batch) -> bool:
        """Let waiting jobs take turns until the batch is full or none is left, and say whether it is full."""
        most_rows, most_tokens = self._limits.batch, self._limits.batch_tokens
        most_again = min(most_tokens, TURNS_SECONDS * self._tokens_per_second)
        while batch.rows < most_rows and batch.tokens < most_tokens and self._jobs:
            if self._jobs[0].ended:
                self._jobs.popleft()
            elif batch.take(self._jobs[0], most_rows, most_tokens, most_again):
                self._jobs.rotate(-1)
            else:
                return True
        return batch.rows >= most_rows or batch.tokens >= most_tokens

    def _answer(self, batch: Sequence[Piece]) -> None:
        """Settle all pieces; where the model fails on several, each half of them on its own."""
        batch = [piece for piece in batch if not piece.job.future.done()]
        if not batch:
            return
        try:
            outcomes: Sequence[Outcome] = self._answers(batch)
        except BaseException as error:
            if len(batch) > 1:
                half = len(batch) // 2
                self._answer(batch[:half])
                self._answer(batch[half:])
                return
            outcomes = [error if isinstance(error, InputError) else _as_model_error(error)]
        _settle(list(zip(batch, outcomes, strict=True)))

    def _answers(self, batch: Sequence[Piece]) -> list[Sequence[Any]]:
        rows = [row for piece in batch for row in piece.job.rows[piece.rows]]
        with self._metrics.batch(len(rows)):
            distribution = self._model.score([row.prompt for row in rows], [row.response for row in rows])
        _check_numbers(distribution, len(rows))
        answers, start = [], 0
        for piece in batch:
            answers.append(piece.job.answer(distribution.rows(slice(start, start + len(piece)))))
            start += len(piece)
        return answers


def _check_numbers(distribution: RewardDistribution, rows: int) -> None:
    for name in ("base", "refined", "mean", "mode", "std"):
        values = getattr(distribution, name)
        if len(values) != rows or not bool(torch.isfinite(values).all()):
            raise ModelError(f"the model's answer has {name} {values.tolist()[:8]}; expected {rows} finite numbers.")


def _as_model_error(error: BaseException) -> ModelError:
    """The same as an error that a future and an event loop take, which StopIteration and SystemExit are not."""
    failure = ModelError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _settle(settled: Sequence[tuple[Piece, Outcome]]) -> None:
    """Hand answers and errors to the requests, in their event loop, unless they have given up or the loop is gone."""

    def in_loop() -> None:
        for (job, rows), outcome in settled:
            if job.future.done():
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
                continue
            job.items.extend(outcome)
            if rows.stop == len(job.rows):
                job.future.set_result(job.items)

    if settled:
        with suppress(RuntimeError):
            settled[0][0].job.future.get_loop().call_soon_threadsafe(in_loop)
