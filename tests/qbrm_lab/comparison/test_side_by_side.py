"""Seeds in processes of their own find what one process finds, and say what stopped them."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from fixtures.hashing_model import HashingModel
from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.errors import InputError, TrainingError, WorkerError
from qbrm.features import FeatureTable
from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.base import Embedded
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare, run_scenario
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.methods import build_method
from qbrm_lab.studies.over_optimisation.measure import OverOptimisationSettings, over_optimisation

COMPARED = ("base", "mlp", "sqrbm:members=5")


class Encoder(HashingModel):
    """An encoder: it has no rewards of its own."""

    def embed(self, prompts, responses):
        return Embedded(super().embed(prompts, responses).embedding, None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    prefs = write_preferences(folder / "prefs.jsonl", 0, 60)
    settings = ComparisonSettings(prefs, folder / "out", methods=COMPARED, reward_model="encoder", seeds=3, epochs=1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(REWARD_MODELS, "encoder", Encoder)
        return prepare(settings, Reporter.silent())


def elsewhere(prepared, folder, workers):
    return prepared._replace(settings=replace(prepared.settings, out=folder, workers=workers))


def without_seconds(tables):
    return replace(tables, timings=[replace(row, seconds=0) for row in tables.timings])


@pytest.mark.usefixtures("one_thread")
def test_processes_find_to_the_digit_what_one_process_finds(prepared, tmp_path):
    methods = {name: build_method(name) for name in COMPARED}
    alone, shared = (
        run_scenario(elsewhere(prepared, tmp_path / str(workers), workers), "fresh", methods, Reporter.silent())
        for workers in (None, 2)
    )
    assert without_seconds(shared.tables()) == without_seconds(alone.tables())
    assert [row.seed for row in shared.rows] == sorted(row.seed for row in shared.rows)
    models = sorted(path.name for path in (tmp_path / "None" / "models").iterdir())
    assert len(models) == 3
    for name in models:
        one, other = (tmp_path / part / "models" / name / "model.safetensors" for part in ("None", "2"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_over_optimisation_finds_the_same(prepared, tmp_path):
    settings = OverOptimisationSettings(methods=("base", "mlp"), seeds=(0, 1), pool=100)
    table = FeatureTable.open(prepared.settings.out / "features")
    test = next(iter(prepared.sources.tests.values()))
    alone, shared = (
        over_optimisation(
            prepared.sources.train,
            test,
            table,
            tmp_path / str(workers),
            Reporter.silent(),
            replace(settings, workers=workers),
        )
        for workers in (None, 2)
    )
    assert shared == alone


def seed_and_threads(seed, reporter):
    return seed, torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_seed_has_one_thread_whatever_the_number_of_workers(workers):
    before = torch.get_num_threads()
    found = list(each_seed(seed_and_threads, range(5, 7), workers, Reporter.silent(), "threads"))
    assert [seed for seed, _, _ in found] == [5, 6]
    assert {threads for _, threads, _ in found} == {1}
    assert (os.getpid() in {process for _, _, process in found}) == (workers == 1)
    assert torch.get_num_threads() == before


def test_a_person_sees_how_many_seeds_are_finished(monkeypatch):
    monkeypatch.setattr("qbrm.cli.console.PLAIN_SECONDS", 0.0)
    printed = io.StringIO()
    list(each_seed(seed_and_threads, range(2), 2, Reporter(Console(file=printed, width=200)), "fresh"))
    first, *others = printed.getvalue().splitlines()
    assert first.split() == ["fresh", "2", "seeds,", "2", "side", "by", "side"]
    assert [line.split(" · ")[0].partition("fresh")[2] for line in others] == [
        "",
        ", 1 of 2 seeds finished",
        ", 2 of 2 seeds finished",
    ]


def test_a_single_worker_is_this_process_with_its_progress(monkeypatch):
    monkeypatch.setattr("qbrm.cli.console.PLAIN_SECONDS", 0.0)
    printed = io.StringIO()
    reporter = Reporter(Console(file=printed, width=200))
    list(each_seed(lambda seed, reporter: reporter.status(f"seed {seed}"), [7], 2, reporter, "fresh"))
    assert "seed 7" in printed.getvalue()
    assert "side by side" not in printed.getvalue()


def refuse(seed, reporter):
    if seed == 1:
        raise InputError("seed 1 is not usable; expected another.")
    return seed


def diverge(seed, reporter):
    raise TrainingError("loss is nan at epoch 3.")


def die(seed, reporter):
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return seed


def test_errors_of_a_seed_are_the_commands_own():
    with pytest.raises(InputError, match=r"^seed 1 is not usable; expected another\.$"):
        list(each_seed(refuse, range(3), 2, Reporter.silent(), "fresh"))
    with pytest.raises(TrainingError, match=r"^loss is nan at epoch 3\.$"):
        list(each_seed(diverge, range(3), 2, Reporter.silent(), "fresh"))


def test_a_killed_process_is_named_with_what_to_do():
    with pytest.raises(WorkerError, match=r"a seed of fresh was killed, .* with fewer --workers"):
        list(each_seed(die, range(4), 2, Reporter.silent(), "fresh"))
    assert list(each_seed(refuse, range(2, 5), 2, Reporter.silent(), "fresh")) == [2, 3, 4]


@pytest.mark.parametrize(("stopped_by", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_processes_end_with_the_one_that_started_them(stopped_by, code, tmp_path):
    waiting = """
        import os, signal, sys, time
        from pathlib import Path
        from qbrm_lab.comparison.side_by_side import each_seed
        from qbrm.cli.console import Reporter

        def wait(seed, reporter):
            (Path(sys.argv[1]) / str(os.getpid())).touch()
            time.sleep(300)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        try:
            list(each_seed(wait, range(2), 2, Reporter.silent(), "fresh"))
        except KeyboardInterrupt:
            sys.exit(130)
    """
    running = subprocess.Popen([sys.executable, "-c", textwrap.dedent(waiting), str(tmp_path)])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    running.send_signal(stopped_by)
    assert running.wait(timeout=60) == code
    wait_until(lambda: not any(is_running(int(path.name)) for path in tmp_path.iterdir()))


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
