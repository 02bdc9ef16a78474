"""The embedding benchmark on few short texts: what is compared, and what its rows hold."""

import json
import sys

import numpy as np
import pytest

from fixtures.preference_files import write_preferences
from fixtures.tiny_models import classifier, save
from qbrm import cli
from qbrm_lab import bench
from qbrm_lab.bench import embed as bench_embed

pytestmark = pytest.mark.usefixtures("one_thread")
WAYS = ["floor", "plain", "last", "mean", "layers"]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bench_embed, "PROMPTS", 2)
    monkeypatch.setattr(bench_embed, "ROUNDS", 1)
    monkeypatch.setattr(bench_embed, "MATRIX", 64)
    monkeypatch.setattr(bench_embed, "RESPONSE_LENGTH", (20, 0.3))


def test_all_ways_give_the_plain_ways_rewards(few, capsys):
    bench.run_benchmark("embed", seed=0, as_json=True, out=None)
    rows = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in rows] == WAYS
    assert all(row["max_difference"] < 1e-5 for row in rows[1:])
    assert rows[0]["max_difference"] is None
    assert rows[0]["reward_deviation"] > 0.01
    for row in rows:
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["ratio_to_plain"] == pytest.approx(rows[1]["seconds"] / row["seconds"])
        assert row["multiple_of_floor"] == pytest.approx(row["seconds"] / rows[0]["seconds"])


def test_a_reward_model_and_preferences_of_ones_own_are_timed(few, tmp_path, monkeypatch, capsys):
    source = write_preferences(tmp_path / "prefs.jsonl", 0, 3)
    command = ["qbrm", "bench", "embed", "--reward-model", save(tmp_path / "rm", classifier()), "--on", source]
    monkeypatch.setattr(sys, "argv", [str(part) for part in [*command, "--json"]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    rows = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in rows] == WAYS
    assert np.isfinite([row["tokens_per_s"] for row in rows]).all()


def test_other_benchmarks_take_no_reward_model():
    with pytest.raises(bench.InputError, match="bench refine takes no --reward-model;"):
        bench.run_benchmark("refine", seed=0, as_json=True, out=None, reward_model="rm")
