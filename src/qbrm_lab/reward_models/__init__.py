"""Reward models that are trained here, to be refined: a fine-tuned encoder, and a small language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qbrm.errors import InputError


@contextmanager
def needs_language_models(command: str) -> Iterator[None]:
    """Say what to install where an import fails that training language models needs.

    Raises:
        InputError: if a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = f"{command} needs {error.name}, which is not installed"
        raise InputError(f"{missing}; pip install 'qbrm[lab,lm]'.") from error
