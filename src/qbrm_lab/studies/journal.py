"""What a study's parts took: every call that worked on one, finished or cut short."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import NotRequired, TypedDict

from qbrm.durable import make_folder, write_atomically
from qbrm_lab.studies.cache import code_digest

JOURNAL_FILE = "study.json"


class Call(TypedDict):
    """One call's work on one part; seconds are None as long as it works, and if it was killed.

    `code` is the digest of what decided the numbers; older journals lack it.
    """

    part: str
    command: str
    code: NotRequired[str]
    finished: bool
    seconds: float | None


@contextmanager
def noted(folder: Path, part: str, command: str) -> Iterator[None]:
    """Note in the folder's study.json that a part is worked on, and how long that took.

    Raises:
        InputError: if the folder cannot be written.
    """
    calls = read_journal(folder)
    call = Call(part=part, command=command, code=code_digest(), finished=False, seconds=None)
    _write(folder, [*calls, call])
    start = time.perf_counter()
    try:
        yield
        call["finished"] = True
    finally:
        call["seconds"] = time.perf_counter() - start
        _write(folder, [*calls, call])


def read_journal(folder: Path) -> list[Call]:
    """All calls so far, first to last."""
    path = folder / JOURNAL_FILE
    calls: list[Call] = json.loads(path.read_bytes())["calls"] if path.exists() else []
    return calls


def _write(folder: Path, calls: list[Call]) -> None:
    make_folder(folder)
    content = {"schema": 1, "calls": calls}
    write_atomically(folder / JOURNAL_FILE, (json.dumps(content, indent=1) + "\n").encode())
