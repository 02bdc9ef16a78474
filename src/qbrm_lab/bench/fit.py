"""How long `qbrm fit` takes once the features are there."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from qbrm.features.stream import Share, Source, StreamedPairs, open_sources
from qbrm.model.judged_fit import JudgedFit
from qbrm.model.score_choice import AUTO, named_score
from qbrm_lab.bench.generated import generate, require_room

PAIRS, DIM = 10_000, 4096
SCORES = (AUTO, "sqrbm")
READINGS = 3


def bench_fit(seed: int) -> list[dict[str, Any]]:
    """Time fitting with a verdict on generated features on disk: with the choice of score, and of one score by name.

    All that `qbrm fit` does after embedding but for saving the model: choose, train, see how far to go, measure on
    test prompts. Reading the features once, from disk or its cache into memory, is timed in the same run.

    Raises:
        InputError: if the disk lacks room for the features in the folder for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="qbrm-fit-") as name:
        features = Path(name) / "features"
        require_room(features.parent, DIM, 2 * PAIRS)
        generate(features, DIM, 2 * PAIRS, seed)
        reading = median(_read(features, seed) for _ in range(READINGS))
        return [{**_fit(features, score, seed, reading), "read_seconds": reading} for score in SCORES]


def _fit(features: Path, score: str, seed: int, reading: float) -> dict[str, Any]:
    start, worked = time.perf_counter(), time.process_time()
    fit = JudgedFit(open_sources([features]), named_score(score), folder=features.parent / score, seed=seed)
    verdict = fit.run().verdict
    seconds = time.perf_counter() - start
    return {
        "dim": DIM,
        "pairs": PAIRS,
        "score": score,
        "fitted": verdict.score,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - worked,
        "multiple_of_reading": seconds / reading,
    }


def _read(features: Path, seed: int) -> float:
    """Seconds that it takes to have all embeddings and rewards in memory."""
    table, pairs = open_sources([features])[0]
    start = time.perf_counter()
    StreamedPairs((Source(table, pairs),), Share(0.0, 1.0, seed)).load()
    return time.perf_counter() - start
