"""Seeds side by side: each one's trainings are small, so a core per seed is worth more than all cores for one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from qbrm.cli.console import Reporter
from qbrm.errors import WorkerError

Outcome = TypeVar("Outcome")

WATCH_SECONDS = 0.5


def each_seed(
    run: Callable[[int, Reporter], Outcome], seeds: Sequence[int], workers: int | None, reporter: Reporter, label: str
) -> Iterator[Outcome]:
    """Call `run` for every seed, and yield what it returns in the order of the seeds.

    Args:
        run: called with a seed and a reporter; with `workers`, it and what it returns must pickle.
        seeds: the seeds.
        workers: processes that take a seed each; a single one is this process. A seed has one thread, so what it
            returns does not depend on how many they are. None: this process runs all, with its threads.
        reporter: told how many seeds are finished; handed to `run` in this process.
        label: what is run.

    Raises:
        WorkerError: if a process is killed from outside.
    """
    if workers is None:
        yield from (run(seed, reporter) for seed in seeds)
        return
    together = min(workers, len(seeds))
    if together == 1:
        yield from (_on_one_thread(run, seed, reporter) for seed in seeds)
        return
    reporter.fact(label, f"{len(seeds)} seeds, {together} side by side")
    # Arrays travel whole: mapped from a file they would be read-only, which torch does not know.
    parallel = Parallel(n_jobs=together, return_as="generator", max_nbytes=None)
    reporter.status(label)
    try:
        for done, outcome in enumerate(parallel(delayed(_alone)(run, seed, os.getpid()) for seed in seeds), start=1):
            reporter.status(f"{label}, {done} of {len(seeds)} seeds finished")
            yield outcome
    except TerminatedWorkerError as error:
        raise WorkerError(
            f"a process that ran a seed of {label} was killed, perhaps for want of memory; what was trained is kept. "
            "Run the same command again, with fewer --workers."
        ) from error
    finally:
        reporter.status(None)


def _alone(run: Callable[[int, Reporter], Outcome], seed: int, parent: int) -> Outcome:
    """Run one seed silently, in a process of its own."""
    _end_with(parent)
    return _on_one_thread(run, seed, Reporter.silent())


@cache
def _end_with(parent: int) -> None:
    """End this process when its parent has been killed: a rerun would otherwise meet it in the same files."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_one_thread(run: Callable[[int, Reporter], Outcome], seed: int, reporter: Reporter) -> Outcome:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(seed, reporter)
    finally:
        torch.set_num_threads(threads)
