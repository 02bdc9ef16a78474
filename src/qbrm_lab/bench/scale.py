"""How memory and time grow with the rows that a score is trained on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qbrm.errors import InputError, WorkerError
from qbrm.features.stream import WINDOW_BYTES, open_sources
from qbrm.model.fit import fit_features
from qbrm.model.score_choice import ScoreChoice
from qbrm_lab.bench.generated import generate, require_room

CASES = ((384, 1_000_000), (384, 2_000_000), (384, 4_000_000), (4096, 250_000))
"""Embedding size and rows."""
SCORE = "sqrbm"
MIB = 2**20
SAMPLED_SECONDS = 0.02


def bench_scale(seed: int, window_bytes: int = WINDOW_BYTES) -> list[dict[str, Any]]:
    """Train a score for one epoch on generated features on disk, two rows to a pair, each size in a process of its own.

    Anonymous memory is what the process itself holds; file pages are the mapped features, which the system drops when
    it needs their memory. Both are the greatest seen while fitting, imports included. Seconds of CPU tell whether time
    is linear where other work shares the machine; they are those of the whole fit, validation included.

    Raises:
        WorkerError: if a training fails.
        InputError: if this is not Linux, or the disk lacks room for the features in the folder for temporary files.
    """
    if not sys.platform.startswith("linux"):
        raise InputError("bench scale reads memory use from /proc; expected Linux.")
    return [_measure(dim, rows, seed, window_bytes) for dim, rows in CASES]


def _measure(dim: int, rows: int, seed: int, window_bytes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="qbrm-scale-") as name:
        folder = Path(name) / "features"
        require_room(folder.parent, dim, rows)
        generate(folder, dim, rows, seed)
        program = f"from qbrm_lab.bench import scale; scale.print_training({str(folder)!r}, {seed}, {window_bytes})"
        measured = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
        if measured.returncode:
            raise WorkerError(f"training on {rows:,} rows ended with exit code {measured.returncode}.")
        size = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    return {"dim": dim, "rows": rows, "disk_bytes_per_row": size / rows, **json.loads(measured.stdout)}


def print_training(folder: str, seed: int, window_bytes: int) -> None:
    """Train on a generated table for one epoch and print what it took as JSON: the work of one process."""
    start = time.perf_counter()
    open_sources([Path(folder)])
    opened, worked = time.perf_counter(), time.process_time()
    with _peak_memory() as peak:
        parts = fit_features([Path(folder)], ScoreChoice(SCORE, epochs=1), seed=seed, window_bytes=window_bytes)
    training = parts.fitted.training
    pairs = training.examples // 2
    measured = {
        "score": SCORE,
        "pairs": pairs,
        "open_seconds": opened - start,
        "train_seconds": training.seconds,
        "cpu_seconds": time.process_time() - worked,
        "pairs_per_s": pairs / training.seconds,
        "anonymous_mib": peak["RssAnon"] / MIB,
        "file_mib": peak["RssFile"] / MIB,
    }
    print(json.dumps(measured))


@contextmanager
def _peak_memory() -> Iterator[dict[str, int]]:
    """The greatest resident memory of this process within the context, in bytes, by what backs it."""
    peak = {"RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], 1024 * int(value.split()[0]))
            done.wait(SAMPLED_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
