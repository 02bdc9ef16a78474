"""The licensed Kaiwu SDK: loading its optimizers, and keeping it from asking questions on standard input."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

from qbrm.errors import InputError


def kaiwu_optimizer(name: str, **options: Any) -> Any:
    """An optimizer of the Kaiwu SDK, as `kaiwu_optimizer("sampler.SimulatedAnnealingSampler", size_limit=100)`.

    Raises:
        InputError: if this Python has no Kaiwu SDK with that class, or no licence. (Kaiwu's community package has no
            optimizers.)
    """
    module, _, kind = name.rpartition(".")
    try:
        optimizer = getattr(importlib.import_module(f"kaiwu.{module}"), kind)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"Kaiwu SDK: no kaiwu.{name} in this Python; expected Python 3.10 and the package kaiwu "
            "(docs/kaiwu.md says how)."
        ) from error
    with unattended():
        return optimizer(**options)


@contextlib.contextmanager
def unattended() -> Iterator[None]:
    """Run calls of the SDK without standard input.

    Without a valid licence the SDK asks for a user id on standard output and input: not at import, but when a machine
    is made or an optimizer first solves. Here it meets an end of file instead. What it prints is held back until it has
    succeeded.

    Raises:
        InputError: if the SDK asked a question or refused the licence.
    """
    keyboard, printed = sys.stdin, io.StringIO()
    sys.stdin = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), _quiet("kaiwu.license"):
            yield
    except Exception as error:
        if any(sign in str(error).lower() for sign in ("eof when reading", "licen")):
            raise InputError(
                "Kaiwu SDK: no valid licence; expected one from kaiwu.license.init(user_id, sdk_code) "
                "(docs/kaiwu.md says how)."
            ) from error
        raise
    finally:
        sys.stdin = keyboard
    print(printed.getvalue(), end="")


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
