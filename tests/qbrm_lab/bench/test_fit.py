"""The fitting benchmark on few small features: what its rows hold."""

import json

import pytest

from qbrm.features.stream import Share, StreamedPairs, open_sources
from qbrm.selection import CANDIDATES, candidates, cross_validation
from qbrm_lab import bench
from qbrm_lab.bench import fit as bench_fit
from qbrm_lab.bench.generated import generate

pytestmark = pytest.mark.usefixtures("one_thread")
KEYS = {
    *("dim", "pairs", "score", "fitted"),
    *("seconds", "cpu_seconds", "read_seconds", "multiple_of_reading"),
}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bench_fit, "DIM", 4)
    monkeypatch.setattr(bench_fit, "PAIRS", 60)
    monkeypatch.setattr(candidates, "LEAST_STEPS", 1)
    monkeypatch.setattr(cross_validation, "CANDIDATES", CANDIDATES[:2])


def test_generated_labels_follow_the_base_reward_and_something_to_learn(tmp_path):
    generate(tmp_path / "features", 4, 2000, seed=0)
    pairs = StreamedPairs(open_sources([tmp_path / "features"]), Share(0.0, 1.0, 0)).load()
    gold = pairs.embedding[:, 0] + pairs.embedding[:, -1]
    assert pairs.n_pairs == 1000
    assert bool((gold[pairs.chosen] >= gold[pairs.rejected]).all())
    base = (pairs.reward[pairs.chosen] > pairs.reward[pairs.rejected]).float().mean()
    assert 0.7 < float(base) < 0.8


def test_fitting_is_timed_with_the_choice_of_score_and_of_one_by_name(few, capsys):
    bench.run_benchmark("fit", seed=0, as_json=True, out=None)
    rows = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in rows] == ["auto", "sqrbm"]
    assert {row["fitted"] for row in rows} <= {"base:tempered", "rbm", "sqrbm"}
    for row in rows:
        assert row.keys() == KEYS
        assert (row["dim"], row["pairs"]) == (4, 60)
        assert row["seconds"] > row["read_seconds"] > 0
        assert row["multiple_of_reading"] == pytest.approx(row["seconds"] / row["read_seconds"])


def test_the_table_tells_what_was_fitted(monkeypatch, capsys):
    rows = [{**dict.fromkeys(KEYS, 2), "score": "auto", "fitted": "rbm:deep"}]
    monkeypatch.setitem(bench.SPEED_BENCHMARKS, "fit", lambda seed: rows)
    bench.run_benchmark("fit", seed=0, as_json=False, out=None)
    assert "rbm:deep" in capsys.readouterr().out
