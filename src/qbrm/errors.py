"""The errors that users of the command line meet."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence


class InputError(ValueError):
    """An input from outside is not usable.

    The message is one line that names the thing, its value and what was expected; the command line prints it behind
    ``qbrm:`` and exits with code 2.
    """


class NotWritableError(InputError):
    """A folder cannot be written."""


class DamagedFileError(InputError):
    """A file that we wrote is not as it was written; what can be computed again is, with a logged warning."""


class BadRowError(InputError):
    """One row of a file is not usable.

    Attributes:
        kind: what is wrong with it, without the place: equal for rows with the same fault.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


class BadRowsError(InputError):
    """Several rows of a source are not usable; the message has a line for each, and one before them.

    Attributes:
        lines: those lines.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines)
        self.lines = tuple(lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class TrainingError(RuntimeError):
    """Training cannot continue; the message says where it stopped and what is kept. Exit code 1."""


class WorkerError(RuntimeError):
    """Worker processes cannot continue; the message says why and what is kept. Exit code 1."""


def reason(error: BaseException) -> str:
    """An error's kind and the beginning of its message, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2]) or 'no reason given'}"


def check_known(what: str, name: str, known: Mapping[str, object] | Sequence[str]) -> None:
    """Refuse a name that is not known, with the nearest one that is.

    Raises:
        InputError: if `name` is not among `known`.
    """
    if name in known:
        return
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown {what} {name!r};{hint} Known: {', '.join(known)}.")
