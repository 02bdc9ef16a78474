"""Output of a command: aligned facts, and progress bars on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status

LABEL_WIDTH = 22
PLAIN_SECONDS = 15.0

Advance = Callable[[int, int], None]


class _Clock(NamedTuple):
    """A text and the seconds since `start`, new in every frame."""

    text: str
    start: float

    def __rich__(self) -> str:
        return f"{self.text} · {time.monotonic() - self.start:,.0f} s"


class Reporter:
    """Prints one line per finished step; during long ones, shows a bar (terminal) or a line every 15 s."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._spinner: Status | None = None
        self._start = self._last_line = time.monotonic()

    @classmethod
    def silent(cls) -> Reporter:
        """One that prints nothing."""
        return cls(Console(quiet=True))

    def fact(self, label: str, *facts: str) -> None:
        """Print ``label  fact · fact · fact``, aligned."""
        self.console.print(f"{label:<{LABEL_WIDTH}} {' · '.join(facts)}", markup=False)
        self._last_line = time.monotonic()

    def status(self, text: str | None) -> None:
        """Show the current step and the seconds since this reporter was made; None ends it.

        On a terminal, a spinner and a running clock; elsewhere, a line at most every 15 s.
        """
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if text is None:
            return
        if self.console.is_terminal:
            self._spinner = self.console.status(_Clock(text, self._start))
            self._spinner.start()
        elif time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self.fact("working on", text, f"{time.monotonic() - self._start:,.0f} s")

    @contextmanager
    def progress(self, label: str) -> Iterator[Advance]:
        """Follow a long step: yields a function to be called with (done, total)."""
        if not self.console.is_terminal:

            def plain(done: int, total: int) -> None:
                if time.monotonic() - self._last_line >= PLAIN_SECONDS:
                    self.fact(label, f"{done:,} of {total:,}")

            yield plain
            return
        columns = (TextColumn(f"{label:<{LABEL_WIDTH}}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
