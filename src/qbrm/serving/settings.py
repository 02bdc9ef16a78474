"""Settings of the server, and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from qbrm.errors import InputError
from qbrm.reward_models import LoadOptions

MEBIBYTE = 2**20
LARGEST = 8 * 10**9
VALUES_PER_RESPONSE = 32


@dataclass(frozen=True)
class Limits:
    """Limits of the server; requests beyond them are refused with a 4xx or 503.

    Args:
        body_bytes: of one request.
        responses: in one request. It may have 32 times as many commas and brackets.
        characters: of one prompt or response.
        compared: responses that one request may compare with each other.
        waiting_tokens: that may wait for the model, over all requests.
        buffered_bytes: of all bodies that are held at once.
        body_seconds: for a body to arrive, once its headers have.
        answer_seconds: for an answer, once the body has arrived.
        batch: responses that go through the model together.
        batch_tokens: that go through the model together.
        batch_seconds: how long the first of a batch waits for others, at least.

    Raises:
        InputError: if a limit is not a positive number, or too large to count with.
    """

    body_bytes: int = 8 * MEBIBYTE
    responses: int = 1024
    characters: int = 100_000
    compared: int = 16
    waiting_tokens: int = 4 * MEBIBYTE
    buffered_bytes: int = 256 * MEBIBYTE
    body_seconds: float = 20.0
    answer_seconds: float = 60.0
    batch: int = 64
    batch_tokens: int = 16_384
    batch_seconds: float = 0.004

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= LARGEST:
                raise InputError(
                    f"limit {name.replace('_', ' ')} is {value:g}; expected more than 0, at most {LARGEST:g}."
                )

    @property
    def values(self) -> int:
        """JSON values in one request: commas and opening brackets outside of texts."""
        return VALUES_PER_RESPONSE * self.responses


def in_bytes(mebibytes: float) -> int:
    """A size in bytes.

    Raises:
        InputError: if it is not a finite number.
    """
    if not math.isfinite(mebibytes):
        raise InputError(f"limit body bytes is {mebibytes} MiB; expected a finite number above 0.")
    return round(mebibytes * MEBIBYTE)


@dataclass(frozen=True)
class ServerSettings:
    """What to serve, and where.

    Args:
        model: folder or name that :meth:`EnergyRewardModel.from_pretrained` takes.
        host: address or name to bind.
        port: to bind; 0 for any free one.
        token_file: holds the token that requests must bear; without it, the environment may.
        limits: of requests and batches.
        options: how the model is loaded.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    options: LoadOptions = field(default_factory=LoadOptions)
