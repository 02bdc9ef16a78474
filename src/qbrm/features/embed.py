"""From preferences to a folder of features that scores are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.features.build import Progress, build_with
from qbrm.features.engine import Engine, LocalEngine
from qbrm.features.pair_list import write_training_pairs
from qbrm.features.ray_engine import Load, ray_engine
from qbrm.features.refused import RefusedTextsError, without_rows
from qbrm.features.table import FeatureTable
from qbrm.preferences import PreferenceSet


class EmbeddedSource(NamedTuple):
    """The features of preferences, and these without those whose texts the model cannot take."""

    table: FeatureTable
    preferences: PreferenceSet


@contextmanager
def _local(load: Load, workers: int | None) -> Iterator[Engine]:
    if workers is not None:
        raise InputError("--workers is for --engine ray; the engine local is one process with all GPUs or cores.")
    yield LocalEngine(load())


ENGINES: dict[str, Callable[[Load, int | None], AbstractContextManager[Engine]]] = {"local": _local, "ray": ray_engine}


def embed(
    preferences: PreferenceSet,
    out: Path,
    load: Load,
    engine: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    *,
    skip_bad: bool = False,
) -> EmbeddedSource:
    """Embed preferences and write their training pairs beside the features.

    Killed at any moment, the same call continues. On CPUs the features are the same bytes whichever engine embeds.

    Args:
        preferences: what to embed.
        out: folder for the features, which may hold those of other sources too; the pairs are these preferences' own.
        load: loads the reward model; picklable, for workers.
        engine: one of `ENGINES`.
        workers: how many workers, with the engine ray; None for one per GPU or, where there is none, one per machine.
        progress: called with (rows there, rows wanted) at the start and as rows are done.
        skip_bad: whether preferences whose texts the model cannot take are left out.

    Raises:
        InputError: if something given is not usable, or `out` cannot be written.
        RefusedTextsError: if the model cannot take some of the texts, or with `skip_bad` none.
        WorkerError: if Ray workers fail.
    """
    taken = preferences
    with ENGINES[engine](load, workers) as embedding:
        try:
            table = build_with(embedding, preferences, out, progress)
        except RefusedTextsError as refused:
            taken = without_rows(preferences, refused.keys)
            if not (skip_bad and taken):
                raise
            table = build_with(embedding, taken, out, progress)
    write_training_pairs(out, taken)
    return EmbeddedSource(table, taken)
