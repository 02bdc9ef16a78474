"""From a preference source to a folder of features that scores are trained on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from qbrm.console import Reporter
from qbrm.errors import InputError
from qbrm.features.build import build_with
from qbrm.features.engine import Engine, LocalEngine
from qbrm.features.pair_list import key_pairs, write_pairs
from qbrm.features.ray_engine import Load, ray_engine
from qbrm.features.table import FeatureTable
from qbrm.preferences import PreferenceSet, read_preferences, training_pairs


@contextmanager
def _local(load: Load, workers: int | None) -> Iterator[Engine]:
    if workers is not None:
        raise InputError("--workers is for --engine ray; the engine local is one process with all GPUs or cores.")
    yield LocalEngine(load())


ENGINES: dict[str, Callable[[Load, int | None], AbstractContextManager[Engine]]] = {"local": _local, "ray": ray_engine}


def embed(source: Path, out: Path, load: Load, engine: str, workers: int | None, reporter: Reporter) -> FeatureTable:
    """Embed a preference source and write its training pairs beside the features.

    Killed at any moment, the same call continues. On CPUs the features are the same bytes whichever engine embeds.

    Args:
        source: preferences, as :func:`read_preferences` takes them.
        out: folder for the features; may hold those of other sources, with the same reward model. The pairs are those
            of this source.
        load: loads the reward model; picklable, for workers.
        engine: one of `ENGINES`.
        workers: how many workers, with the engine ray; None for one per GPU or, where there is none, one per machine.
        reporter: told what is going on.

    Raises:
        InputError: if something given is not usable, or `out` cannot be written.
        WorkerError: if Ray workers fail.
    """
    preferences = read_preferences(source)
    pairs = key_pairs(training_pairs(preferences))
    reporter.fact(preferences.name, f"{len(preferences.prompt_ids):,} prompts", f"{len(pairs):,} pairs")
    with ENGINES[engine](load, workers) as embedding:
        table = _build(embedding, preferences, out, reporter)
    write_pairs(out, pairs, preferences.name)
    reporter.fact("written", f"{len(table):,} rows of size {table.dim}", str(out))
    return table


def _build(engine: Engine, preferences: PreferenceSet, out: Path, reporter: Reporter) -> FeatureTable:
    seen: list[int] = []

    def follow(done: int, total: int) -> None:
        seen.append(done)
        advance(done, total)

    start = time.perf_counter()
    with warnings.catch_warnings(), reporter.progress("features") as advance:
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: reporter.fact("features", str(message))
        table = build_with(engine, preferences, out, follow)
    seconds, embedded = time.perf_counter() - start, seen[-1] - seen[0]
    rate = f" ({embedded / seconds:,.1f}/s)" if embedded else ""
    reporter.fact(
        "features", f"{seen[-1]:,} responses", str(engine.described.identity), f"{embedded:,} embedded now{rate}"
    )
    return table
