"""Training from disk takes no more memory for more features."""

import shutil
import sys

import pytest

from qbrm.errors import InputError
from qbrm_lab.bench import scale

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory use from Linux's /proc")
def test_memory_does_not_grow_with_the_features(monkeypatch):
    """30,000 more rows of D = 384 are 43 MiB more on disk; held-out pairs, an eighth up to 8,192, stay in memory.

    A third of what was added is left to the allocator, whose peaks differ by 10 MiB from run to run.
    """
    monkeypatch.setattr(scale, "CASES", ((384, 10_000), (384, 40_000)))
    few, many = scale.bench_scale(seed=0, window_bytes=8 * 2**20)
    added = (many["rows"] - few["rows"]) * many["disk_bytes_per_row"] / scale.MIB
    assert added > 43
    held_out = 30_000 / 8 * 384 * 4 / scale.MIB
    assert many["anonymous_mib"] - few["anonymous_mib"] < held_out + added / 3


def test_bench_scale_needs_room_for_its_features(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**10, 10**10, 10**6))
    with pytest.raises(InputError, match=r"0\.0 GiB free, 1,000,000 rows need 1\.7; expected the .* TMPDIR"):
        scale.bench_scale(seed=0)
