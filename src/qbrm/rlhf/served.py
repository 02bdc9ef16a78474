"""Refined rewards from a running `qbrm serve`, asked for asynchronously by TRL."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from qbrm.errors import InputError, reason
from qbrm.model.conversation import PromptLike, as_prompt
from qbrm.preferences import response_messages
from qbrm.rlhf.trl import Completions, LogMetric, log_means, turns_of

try:
    from aiohttp import ClientConnectionError, ClientError, ClientPayloadError, ClientSession, ClientTimeout
    from tenacity import (
        AsyncRetrying,
        RetryCallState,
        RetryError,
        before_sleep_log,
        retry_if_exception_type,
        stop_after_attempt,
        wait_exponential,
        wait_random,
    )
except ImportError as error:
    raise InputError(f"RewardClient needs {error.name}, which is not installed; pip install 'qbrm[trl]'.") from error

ROWS = 64  # responses in a request: what the server sends through the model together
TRY_AGAIN = (408, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 30.0
TOKEN = "QBRM_TOKEN"

logger = logging.getLogger(__name__)


class UnavailableError(RuntimeError):
    """The server gave no answer, however often it was asked."""


class RewardClient:
    """The rewards of a running ``qbrm serve`` as an asynchronous reward function of TRL (1.14 or newer).

    Prompts and completions are read as :class:`~qbrm.RewardFunction` reads them, and the same is logged. TRL computes
    its other rewards while the server works on these. There is a reward for every completion, or an error that stops
    the training: never None, by which TRL would leave completions out.

        trainer = GRPOTrainer(model=..., reward_funcs=RewardClient("http://127.0.0.1:8000"), ...)

    Args:
        url: of the server.
        name: under which TRL logs the rewards.
        token: that the server demands; None for the environment variable QBRM_TOKEN, if there is one.
        timeout: seconds after which an attempt has failed.
        attempts: how often a request is made, if the server is not reached, too slow, overloaded or failing.
        pause: seconds before the second attempt, about; later pauses are twice as long each, and 30 at most. A server
            that asks for more, by Retry-After, gets it up to these 30.

    Raises:
        InputError: if an argument is not usable.
    """

    def __init__(
        self,
        url: str,
        name: str = "qbrm",
        *,
        token: str | None = None,
        timeout: float = 120.0,
        attempts: int = 5,
        pause: float = 1.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"address {url!r}; expected one that begins with http:// or https://.")
        if not (timeout > 0 and attempts >= 1 and pause >= 0):
            given = f"timeout {timeout}, attempts {attempts}, pause {pause}"
            raise InputError(f"{given}; expected more than 0 seconds, 1 or more attempts, 0 seconds or more.")
        self.url, self.__name__ = url.rstrip("/"), name
        self.timeout, self.attempts, self.pause = timeout, attempts, pause
        self._token = token or os.environ.get(TOKEN)

    async def __call__(
        self,
        prompts: Sequence[PromptLike],
        completions: Completions,
        log_metric: LogMetric | None = None,
        **batch: Any,
    ) -> list[float]:
        """The refined reward of each completion.

        Args:
            prompts: strings or chat messages.
            completions: as many answers.
            log_metric: TRL's, which takes a name and a value for this batch.
            **batch: the rest of the batch and what TRL adds; not used.

        Raises:
            InputError: if the batch is not as expected, or the server refuses it or is no `qbrm serve`.
            UnavailableError: if no attempt was answered.
        """
        turns = turns_of(prompts, completions)
        asked, answers = (
            [_messages_or_text(prompt) for prompt in turns[0]],
            [_message_or_text(text) for text in turns[1]],
        )
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        rows: list[Mapping[str, Any]] = []
        async with ClientSession(timeout=ClientTimeout(total=self.timeout), headers=headers) as session:
            for start in range(0, len(asked), ROWS):
                part = slice(start, start + ROWS)
                rows += await self._ask(session, {"prompts": asked[part], "responses": answers[part]})
        log_means(log_metric, self.__name__, _logged(rows))
        return [float(row["reward"]) for row in rows]

    async def _ask(self, session: ClientSession, request: Mapping[str, list[Any]]) -> list[Mapping[str, Any]]:
        """The server's rows for one request, after as many attempts as it takes."""
        growing = wait_exponential(self.pause, LONGEST_PAUSE) + wait_random(0, self.pause)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=lambda state: max(growing(state), _asked_for(state)),
            retry=retry_if_exception_type(_TryAgainError),
            before_sleep=before_sleep_log(logger, logging.WARNING),
        )
        try:
            answer: Any = await retrying(self._post, session, request)
        except RetryError as error:
            last = error.last_attempt.exception()
            raise UnavailableError(f"{self.url} gave no rewards in {self.attempts} attempts ({last}).") from last
        return self._checked(answer, len(request["responses"]))

    async def _post(self, session: ClientSession, request: Mapping[str, list[Any]]) -> Any:
        try:
            async with session.post(f"{self.url}/v1/score", json=request) as response:
                if response.status == 200:
                    return await response.json()
                said = f"{response.status}: {(await response.text())[:500]}"
                seconds = response.headers.get("retry-after", "")
        except (asyncio.TimeoutError, ClientConnectionError, ClientPayloadError) as error:
            raise _TryAgainError(reason(error)) from error
        except (ClientError, ValueError) as error:
            raise InputError(
                f"{self.url} is not usable ({reason(error)}); expected the address of qbrm serve."
            ) from error
        if response.status in TRY_AGAIN:
            raise _TryAgainError(said, float(seconds) if seconds.isdecimal() else 0.0)
        raise InputError(f"{self.url} refuses the request ({said}).")

    def _checked(self, answer: Any, responses: int) -> list[Mapping[str, Any]]:
        """The rows of an answer. Raises InputError if they are not one number for each response."""
        try:
            rows: list[Mapping[str, Any]] = answer["rewards"]
            rewards = [float(row["reward"]) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.url} gave no rewards ({reason(error)}); expected qbrm serve.") from error
        if len(rewards) != responses or not all(map(math.isfinite, rewards)):
            raise InputError(f"{self.url} gave {rewards} for {responses} responses; expected a finite number for each.")
        return rows


class _TryAgainError(Exception):
    """An attempt failed in a way that a later one may not, after `seconds` if the server says so."""

    def __init__(self, said: str, seconds: float = 0.0) -> None:
        super().__init__(said)
        self.seconds = seconds


def _asked_for(state: RetryCallState) -> float:
    """Seconds that the server asked to wait after the last attempt."""
    error = state.outcome and state.outcome.exception()
    return min(error.seconds, LONGEST_PAUSE) if isinstance(error, _TryAgainError) else 0.0


def _messages_or_text(prompt: PromptLike) -> PromptLike:
    """A prompt with nothing but what the server reads."""
    return prompt if isinstance(prompt, str) else [message.to_dict() for message in as_prompt(prompt)]


def _message_or_text(response: str) -> str | dict[str, Any]:
    """A response as the server takes it: its text, or the message if it has more than text."""
    (message,) = response_messages(response)
    return message.to_dict() if message.more else response


def _logged(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    columns = {name: [row[name] for row in rows] for name in ("base", "std")}
    levels = rows[0]["quantiles"] if rows else ()
    return columns | {f"quantile_{level}": [row["quantiles"][level] for row in rows] for level in levels}
