"""What a study's parts took: every call that worked on one, finished or cut short."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qbrm.durable import LOCK, SUMS
from qbrm_lab.studies.cache import STUDY_VERSION
from qbrm_lab.studies.json_files import read_json, write_json

JOURNAL_FILE = "study.json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call's work on one part.

    Attributes:
        part: one of a study's parts.
        command: the command line.
        version: `STUDY_VERSION` of the code that worked; older journals lack it.
        finished: whether it came to its end.
        seconds: what it took; None as long as it works, and if it was killed.
    """

    part: str
    command: str
    version: int | None = None
    finished: bool
    seconds: float | None


@dataclass(frozen=True)
class Journal:
    """Content of study.json."""

    calls: list[Call]


@contextmanager
def noted(folder: Path, part: str, command: str) -> Iterator[None]:
    """Note in the folder's study.json that a part is worked on, and how long that took; not if it made no file.

    Raises:
        InputError: if the folder cannot be written.
    """
    path, calls = folder / JOURNAL_FILE, read_journal(folder)
    call = Call(part=part, command=command, version=STUDY_VERSION, finished=False, seconds=None)
    write_json(path, Journal([*calls, call]))
    start = time.perf_counter()
    try:
        yield
        call = replace(call, finished=True)
    finally:
        if not (call.finished or calls) and {made.name for made in folder.iterdir()} <= {JOURNAL_FILE, SUMS, LOCK}:
            path.unlink()  # refused before there was any work
            (folder / SUMS).unlink()
        else:
            write_json(path, Journal([*calls, replace(call, seconds=time.perf_counter() - start)]))


def read_journal(folder: Path) -> list[Call]:
    """All calls so far, first to last.

    Raises:
        InputError: if study.json is not one.
    """
    path = folder / JOURNAL_FILE
    return read_json(path, Journal).calls if path.exists() else []
