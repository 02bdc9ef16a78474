"""Seeds side by side: each one's trainings are small, so a core per seed is worth more than all cores for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from qbrm.console import Reporter
from qbrm.errors import WorkerError

Found = TypeVar("Found")


def each_seed(
    run: Callable[[int, Reporter], Found], seeds: Sequence[int], workers: int | None, reporter: Reporter, label: str
) -> Iterator[Found]:
    """What `run` finds for every seed, in the order of the seeds.

    Args:
        run: called with a seed and a reporter; with `workers`, it and what it returns must pickle.
        seeds: to run.
        workers: processes that take a seed each. In them a seed has one thread, so what it finds does not depend on
            how many they are. None: one seed after the other in this process, with its threads.
        reporter: told how many seeds are finished; without `workers`, also handed to `run`.
        label: what is run.

    Raises:
        WorkerError: if a process is killed from outside.
    """
    if workers is None:
        yield from (run(seed, reporter) for seed in seeds)
        return
    # Arrays travel whole: mapped from a file they would be read-only, which torch does not know.
    parallel = Parallel(n_jobs=min(workers, len(seeds)), return_as="generator", max_nbytes=None)
    reporter.status(f"{label}, {len(seeds)} seeds side by side")
    try:
        for done, found in enumerate(parallel(delayed(_alone)(run, seed) for seed in seeds), start=1):
            reporter.status(f"{label}, {done} of {len(seeds)} seeds finished")
            yield found
    except TerminatedWorkerError as error:
        raise WorkerError(
            f"a process that ran a seed of {label} was killed, perhaps for want of memory; what was trained is kept. "
            "Run the same command again, with fewer --workers."
        ) from error
    finally:
        reporter.status(None)


def _alone(run: Callable[[int, Reporter], Found], seed: int) -> Found:
    """Run one seed silently and on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(seed, Reporter.silent())
    finally:
        torch.set_num_threads(threads)
