"""Calls to devices that may be slow, unavailable for a while, or broken."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from qbrm.errors import InputError

logger = logging.getLogger(__name__)

INTERRUPTIONS = ("TimeoutError", "TimeoutException", "Timeout", "ConnectionError", "TransportError")

Answer = TypeVar("Answer")


def call_with_retries(call: Callable[[], Answer | None], name: str, attempts: int, pause: float) -> Answer:
    """Return what `call` returns; call again after time-outs, lost connections, and None for an unfinished task.

    Args:
        call: asks the device.
        name: of the device, for messages.
        attempts: how often the call is tried.
        pause: seconds before the second attempt; each later pause is twice as long.

    Raises:
        InputError: if no attempt is answered, or one fails in another way.
    """
    for attempt in range(attempts):
        try:
            answer = call()
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            if not _is_interruption(error):
                raise InputError(f"{name} failed ({reason}).") from error
        else:
            if answer is not None:
                return answer
            reason = "the task is not finished"
        if attempt + 1 < attempts:
            seconds = pause * 2**attempt
            logger.warning("%s: %s; trying again in %g s", name, reason, seconds)
            time.sleep(seconds)
    raise InputError(f"{name} gave no solution in {attempts} attempts ({reason}); nothing is lost, try again.")


def check_retries(attempts: int, pause: float, name: str) -> None:
    """Refuse numbers that :func:`call_with_retries` can do nothing with.

    Raises:
        InputError: if there is no attempt, or the pause is negative or not finite.
    """
    if attempts < 1:
        raise InputError(f"{name}: attempts is {attempts}; expected 1 or more.")
    if not 0 <= pause < math.inf:
        raise InputError(f"{name}: pause is {pause}; expected 0 seconds or more.")


def _is_interruption(error: Exception) -> bool:
    """Whether a later attempt may succeed. By name: the devices' requests and httpx are needed for nothing else."""
    return any(kind.__name__ in INTERRUPTIONS for kind in type(error).__mro__)
