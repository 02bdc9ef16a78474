"""The load test's figures are what they say: a short run, with a small model behind the server."""

import contextlib
import json

import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.serving_client import serving
from qbrm import EnergyRewardModel
from qbrm.preferences import read_preferences, sample_source
from qbrm.reward_models import DEFAULT_REWARD_MODEL, REWARD_MODELS
from qbrm_lab import bench
from qbrm_lab.bench import serve as bench_serve

KEYS = {
    *("clients", "seconds", "requests", "errors", "wrong"),
    *("served_per_s", "offline_per_s", "ratio_to_offline", "cpu_ratio_to_offline"),
}


class FakeDefault(FakeEncoder):
    """Stands for the default encoder."""

    def __init__(self):
        super().__init__(name=DEFAULT_REWARD_MODEL)


@contextlib.contextmanager
def server_in_this_process(folder):
    with serving(EnergyRewardModel.from_pretrained(folder)) as served:
        yield served.address


@pytest.fixture
def short(monkeypatch, one_thread):
    monkeypatch.setitem(REWARD_MODELS, DEFAULT_REWARD_MODEL, FakeDefault)
    monkeypatch.setattr(bench_serve, "_server", server_in_this_process)
    for name, value in {"CLIENTS": 4, "SECONDS": 0.5, "OFFLINE_ROWS": 8}.items():
        monkeypatch.setattr(bench_serve, name, value)


def test_every_request_of_every_client_is_answered_as_offline(short, capsys):
    bench.run_benchmark("serve", seed=0, as_json=True, out=None)
    (row,) = json.loads(capsys.readouterr().out)
    assert row.keys() == KEYS
    assert (row["clients"], row["errors"], row["wrong"]) == (4, 0, 0)
    assert row["requests"] >= 4
    assert row["served_per_s"] == pytest.approx(row["requests"] / row["seconds"])
    assert row["ratio_to_offline"] == pytest.approx(row["served_per_s"] / row["offline_per_s"])


def test_no_text_comes_twice_and_texts_are_as_long_as_those_of_the_sample():
    drawn = bench_serve.Pairs(seed=0).draw(2000)
    texts = [text for pair in drawn for text in pair]
    assert len(set(texts)) == 4000
    sample = [text for p in read_preferences(sample_source()) for text in (p.prompt[-1].content, *p.responses)]
    assert max(map(len, texts)) <= max(map(len, sample)) + len("4000 ")
    assert {word for text in texts for word in text.split()[1:]} <= {word for text in sample for word in text.split()}


def test_a_wrong_answer_is_counted(short, monkeypatch):
    ask = bench_serve._ask
    monkeypatch.setattr(bench_serve, "_ask", lambda *asked: [reward + 0.01 for reward in ask(*asked)])
    (row,) = bench_serve.bench_serve(seed=0)
    assert row["wrong"] == row["requests"] > 0


def test_a_server_that_does_not_start_is_an_error_not_a_wait(tmp_path):
    with pytest.raises(RuntimeError, match="did not start"), bench_serve._server(tmp_path / "missing"):
        pass
