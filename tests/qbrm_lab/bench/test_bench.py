"""The published arithmetic that speed is measured against is the same function as ours, only slower."""

import contextlib
import io
import json

import pytest
import torch

from qbrm.data.pairs import Batch
from qbrm.energies import EBRM
from qbrm.fitting.objectives import NCEPlus
from qbrm.refinement import Ascent
from qbrm_lab import bench
from qbrm_lab.bench import refine as bench_refine
from qbrm_lab.bench import timing
from qbrm_lab.bench import train as bench_train
from qbrm_lab.bench.published import published_ascent, published_nce, whole_network
from qbrm_lab.bench.scores import Inputs, make_inputs, make_scores
from qbrm_lab.bench.timing import Work, rows_per_second

DIM = 12
KEYS = {"dim", "method", "rows_per_s", "ratio_to_published", "ratio_to_ebrm", "multiple_of_floor"}


@pytest.fixture
def hilly():
    """An EBRM whose weights are large enough for f to have hills, in evaluation mode.

    In double precision: whether a step raises f is a yes or no that rounding decides near the top of a hill.
    """
    torch.manual_seed(0)
    score = EBRM(DIM).eval()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.mul_(3)
    return score.double()


@pytest.fixture(scope="module")
def tiny():
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_tiny(monkeypatch)
        yield


def make_tiny(monkeypatch):
    monkeypatch.setattr(bench, "DIMS", (DIM,))
    monkeypatch.setattr(bench_refine, "ROWS", {DIM: 64})
    monkeypatch.setattr(bench_refine, "ASCENT_ROWS", {DIM: 2})
    monkeypatch.setattr(bench_refine, "QUANTUM_ROWS", 8)
    monkeypatch.setattr(bench_train, "PAIRS", 16)
    monkeypatch.setattr(bench_train, "EBRM_PAIRS", 8)
    monkeypatch.setattr(bench_train, "PUBLISHED_EXAMPLES", 2)
    monkeypatch.setattr(bench_train, "PUBLISHED_NOISE", 16)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.001)


def some_inputs(rows, seed):
    inputs = make_inputs(rows, DIM, torch.Generator().manual_seed(seed))
    return Inputs(inputs.embedding.double(), inputs.reward.double())


def test_unsplit_network_is_the_split_score(hilly):
    inputs = some_inputs(20, seed=1)
    reward = torch.linspace(-5, 5, 20).double()
    ours = hilly.at(hilly.clamp(inputs.embedding, inputs.reward), reward[:, None])[:, 0]
    torch.testing.assert_close(whole_network(hilly, inputs.embedding, reward), ours, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ascent", [Ascent(), Ascent(step_size=8.0, shrink=0.2)], ids=["published", "overshooting"])
def test_published_ascent_ends_where_ours_does(hilly, ascent):
    inputs = some_inputs(24, seed=2)
    clamped = hilly.clamp(inputs.embedding, 2 * inputs.reward)
    ours = ascent(hilly, clamped, torch.Generator().manual_seed(3))
    start = ascent.start(clamped.base_reward, torch.Generator().manual_seed(3))
    published = published_ascent(hilly, inputs.embedding, start, ascent)
    torch.testing.assert_close(published, ours, rtol=0, atol=1e-6)
    assert (published - start).abs().median() > 0.1  # there was something to climb


def test_published_loss_is_ours_under_the_same_noise(hilly, monkeypatch):
    """The two ask for their noise in different shapes; both get the same numbers for each example."""
    examples, samples = 10, 7
    inputs = some_inputs(examples, seed=4)
    positive, negative = torch.randn(examples).double(), torch.randn(examples, samples).double()
    noise = {
        (examples,): positive,
        (examples, 1): positive[:, None],
        (samples, examples): negative.T,
        (examples, samples): negative,
    }
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: noise[shape])
    half = examples // 2
    batch = Batch(inputs.embedding[:half], inputs.reward[:half], inputs.embedding[half:], inputs.reward[half:])
    objective, generator = NCEPlus(samples), torch.Generator()
    published = published_nce(hilly, inputs.embedding, inputs.reward, objective, generator)
    torch.testing.assert_close(published, objective(hilly, batch, generator), rtol=1e-9, atol=0)


TIMED = {"refine": ("ebrm", "rbm", "sqrbm", "tqbm"), "train": ("ebrm", "rbm", "sqrbm")}


@pytest.fixture(scope="module", params=TIMED)
def measured(request, tiny, tmp_path_factory):
    """One benchmark, run once: what it printed, what it wrote, and what it timed."""
    file = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        bench.run_benchmark(request.param, seed=0, as_json=True, out=file)
    return printed.getvalue(), file.read_text(), TIMED[request.param]


def test_json_is_one_list_with_a_row_per_method_and_size(measured):
    printed, written, timed = measured
    rows = json.loads(printed)
    assert [(row["dim"], row["method"]) for row in rows] == [(DIM, name) for name in timed]
    assert all(row.keys() == KEYS for row in rows)
    assert all(row[key] > 0 for row in rows for key in KEYS - {"method"})
    assert json.loads(written) == rows


def test_ratios_are_ratios_of_the_rates_beside_them(measured):
    rows = {row["method"]: row for row in json.loads(measured[0])}
    published = {row["rows_per_s"] / row["ratio_to_published"] for row in rows.values()}
    assert max(published) == pytest.approx(min(published))
    for row in rows.values():
        assert row["ratio_to_ebrm"] == pytest.approx(row["rows_per_s"] / rows["ebrm"]["rows_per_s"])


def test_table_names_every_method(tiny, monkeypatch, capsys):
    rows = [{**dict.fromkeys(KEYS, 2.0), "dim": DIM, "method": name} for name in ("ebrm", "rbm", "sqrbm")]
    monkeypatch.setitem(bench.SPEED_BENCHMARKS, "refine", lambda seed: rows)
    bench.run_benchmark("refine", seed=0, as_json=False, out=None)
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in ("ebrm", "rbm", "sqrbm"))


def test_timed_scores_read_the_embedding_at_the_same_cost():
    scores = make_scores(DIM, seed=0)
    assert {name: scores[name].W.numel() for name in ("rbm", "sqrbm")} == {"rbm": 64 * DIM, "sqrbm": 64 * DIM}


def test_rate_is_rows_over_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def passes(seconds):
        def run():
            now[0] += seconds

        return run

    rates = rows_per_second({"slow": Work(passes(2.0), 10), "fast": Work(passes(0.01), 10)})
    assert rates == pytest.approx({"slow": 5.0, "fast": 1000.0})
