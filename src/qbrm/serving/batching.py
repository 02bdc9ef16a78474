"""Batches of concurrent requests for one worker thread, the only one that uses the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from qbrm.model.distribution import RewardDistribution
from qbrm.model.energy_reward_model import PromptLike
from qbrm.serving.metrics import Metrics
from qbrm.serving.settings import Limits

Answer = TypeVar("Answer")

PATIENT_SHARE, MOST_PATIENT_SECONDS = 0.1, 0.1


class OverloadedError(Exception):
    """More is waiting for the model than it can answer in time."""


class Model(Protocol):
    """What the server needs of a model: :class:`qbrm.EnergyRewardModel` has it."""

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> RewardDistribution:
        """The distribution of the reward of response i as an answer to prompt i."""


@dataclass(frozen=True)
class Job(Generic[Answer]):
    """What one request asks, one prompt per response; the worker thread calls `answer` on its rows of a batch."""

    prompts: Sequence[PromptLike]
    responses: Sequence[str]
    answer: Callable[[RewardDistribution], Answer]
    future: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def __len__(self) -> int:
        return len(self.responses)

    def settle(self, answer: Answer | Exception) -> None:
        """Hand the answer or error to the request, in its event loop, unless it has given up or the loop is gone."""

        def in_loop() -> None:
            if self.future.done():
                return
            if isinstance(answer, Exception):
                self.future.set_exception(answer)
            else:
                self.future.set_result(answer)

        with suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(in_loop)


class Batcher:
    """Dynamic batching: a batch closes when it is full, or when its first request has waited long enough.

    While the model works on one batch the next one collects. Full batches are worth a wait: clients that ask again as
    soon as they are answered would otherwise fall into two groups that take turns in half batches for ever. So a batch
    waits up to a tenth of what the last one took, and of a second, where that is longer than its usual patience. A
    request is never split over batches. An error of the model in a batch of several is traced to the request that
    causes it.

    Args:
        model: only ever called from the worker thread, one call at a time.
        limits: size and patience of batches, how many responses may wait, how long for.
        metrics: told of every batch.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._worker = Thread(target=self._work, name="qbrm-model", daemon=True)
        self._left_over: Job[Any] | None = None
        self._waiting = 0
        self._last_seconds = 0.0
        self._busy_since: float | None = None

    def start(self) -> None:
        """Start the worker thread."""
        self._worker.start()

    async def stop(self) -> None:
        """Answer what waits, then end the worker thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._worker.join, self._limits.answer_seconds)

    @property
    def ready(self) -> bool:
        """Whether a request made now can expect an answer in time."""
        busy_since = self._busy_since
        stuck = busy_since is not None and time.monotonic() - busy_since > self._limits.answer_seconds
        return self._worker.is_alive() and not stuck and self._waiting < self._limits.waiting

    async def ask(
        self, prompts: Sequence[PromptLike], responses: Sequence[str], answer: Callable[[RewardDistribution], Answer]
    ) -> Answer:
        """Wait for the distribution of these responses, and what `answer` makes of it.

        Raises:
            OverloadedError: if too many responses wait already.
            TimeoutError: if there is no answer within the limit.
            InputError: if the model refuses a prompt or response.
        """
        job = Job(prompts, responses, answer)
        if self._waiting + len(job) > self._limits.waiting:
            raise OverloadedError(f"{self._waiting} responses are waiting already; try again later.")
        self._count(len(job))
        try:
            self._queue.put(job)
            return await asyncio.wait_for(job.future, self._limits.answer_seconds)
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"no answer within {self._limits.answer_seconds:g} s; try again later.") from error
        finally:
            self._count(-len(job))

    def _count(self, responses: int) -> None:
        self._waiting += responses
        self._metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        while batch := self._collect():
            wanted = [job for job in batch if not job.future.done()]
            if wanted:
                self._busy_since = start = time.monotonic()
                self._answer(wanted)
                self._busy_since, self._last_seconds = None, time.monotonic() - start

    def _collect(self) -> list[Job[Any]]:
        """The next batch; empty when the server stops."""
        first, self._left_over = self._left_over, None
        if first is None:
            first = self._queue.get()
        if first is None:
            return []
        batch, rows = [first], len(first)
        patience = max(self._limits.batch_seconds, min(PATIENT_SHARE * self._last_seconds, MOST_PATIENT_SECONDS))
        closes = time.monotonic() + patience
        while rows < self._limits.batch:
            try:
                job = self._queue.get(timeout=max(0.0, closes - time.monotonic()))
            except Empty:
                break
            if job is None:
                self._queue.put(None)
                break
            if rows + len(job) > self._limits.batch:
                self._left_over = job
                break
            batch.append(job)
            rows += len(job)
        return batch

    def _answer(self, batch: Sequence[Job[Any]]) -> None:
        try:
            answers = self._answers(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(error)
                return
            for job in batch:
                self._answer([job])
        else:
            for job, answer in zip(batch, answers, strict=True):
                job.settle(answer)

    def _answers(self, batch: Sequence[Job[Any]]) -> list[Any]:
        prompts = [prompt for job in batch for prompt in job.prompts]
        responses = [response for job in batch for response in job.responses]
        with self._metrics.batch(len(responses)):
            distribution = self._model.score(prompts, responses)
        answers, start = [], 0
        for job in batch:
            answers.append(job.answer(distribution.rows(slice(start, start + len(job)))))
            start += len(job)
        return answers
