"""Refining more embeddings than fit in memory."""

import subprocess
import sys

import pytest

# Most anonymous memory while refining; the pages of the mapped file are the system's to drop.
PROGRAM = """
import sys, threading, time
import numpy as np, torch
from qbrm.energies import RBM
from qbrm.refinement import refine

rows = int(sys.argv[1])
embedding = np.memmap(sys.argv[2], dtype=np.float32, mode="r", shape=(rows, 4096))
reward = np.zeros(rows, dtype=np.float32)
score = RBM(4096, hidden=64)


def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 2**20


before, most, done = anonymous(), 0.0, False


def watch():
    global most
    while not done:
        most = max(most, anonymous())
        time.sleep(0.005)


watcher = threading.Thread(target=watch)
watcher.start()
refined = refine(score, embedding, reward)
done = True
watcher.join()
assert len(refined) == rows and torch.isfinite(refined).all()
print(most - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory use from Linux's /proc")
def test_refining_a_mapped_table_takes_a_small_part_of_its_size(tmp_path):
    """40,000 embeddings of size 4096 are 0.6 GiB; this file run with 1000000 does a million."""
    assert gibibytes_beyond_the_map(40_000, tmp_path / "embeddings") < 0.3


def gibibytes_beyond_the_map(rows, path):
    with path.open("wb") as file:
        file.truncate(rows * 4096 * 4)  # a sparse file: zeros without disk space
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(rows), str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        print(f"{gibibytes_beyond_the_map(int(sys.argv[1]), Path(folder) / 'embeddings'):.2f} GiB beyond the map")
