"""A Ray cluster gives the same bytes as this process, whoever dies on the way.

Slow for what they do: every test starts processes that import torch, some seconds each.
"""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fixtures.hashing_model import HashingModel
from qbrm.errors import InputError, WorkerError
from qbrm.features import FeatureTable, build, build_features, ray_engine
from qbrm.features.build import build_with
from qbrm.features.ray_engine import share_out
from qbrm.preferences.base import Message, Preference, PreferenceSet
from qbrm.reward_models import load_reward_model

ray = pytest.importorskip("ray", reason="the extra qbrm[ray] is not installed")
SHARD_ROWS = 8
PYTHONPATH = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])


def preferences(count=20):
    def preference(number):
        prompt = (Message("user", f"question {number}"),)
        responses = [f"answer {i} to {number} " + "so " * (7 * i + number) for i in range(4)]
        return Preference(str(number), prompt, responses[0], tuple(responses[1:]), "chat", "bon")

    return PreferenceSet("made up", tuple(map(preference, range(count))))


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module", autouse=True)
def three_threads():
    """Neither the default here nor a worker's."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one run in one process writes."""
    folder = tmp_path_factory.mktemp("whole")
    build_features(HashingModel(), preferences(), folder, shard_rows=SHARD_ROWS)
    return files(folder)


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("PYTHONPATH", PYTHONPATH)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        yield
        ray.shutdown()


def build_on_ray(folder, workers, progress=None, **model):
    with ray_engine.ray_engine(partial(HashingModel, **model), workers) as engine:
        return build_with(engine, preferences(), folder, progress, SHARD_ROWS)


def test_a_killed_worker_is_replaced_and_every_block_written_once(cluster, whole, tmp_path, monkeypatch):
    pids, written, killed = tmp_path / "pids", Counter(), []
    pids.mkdir()
    write = build.write_shard
    monkeypatch.setattr(build, "write_shard", lambda path, *rest: written.update([path.name]) or write(path, *rest))

    def kill_one(done, total):
        if 0 < done < total and not killed:
            holders = sorted(pids.iterdir(), key=lambda path: path.stat().st_mtime)
            killed.append(int(holders[-1].name))
            os.kill(killed[0], signal.SIGKILL)

    build_on_ray(tmp_path / "features", 2, kill_one, pids=pids, delay=0.15)
    assert killed
    holders = sorted(pids.iterdir(), key=lambda path: path.stat().st_mtime)
    assert int(holders[-1].name) != killed[0]  # somebody took over
    assert files(tmp_path / "features") == whole
    assert written == Counter({name: 1 for name in whole if name.startswith("features")})


def test_the_real_encoder_gives_the_same_bits_on_a_cluster(cluster, tmp_path):
    source, load = preferences(4), partial(load_reward_model, "all-MiniLM-L6-v2")
    build_features(load(), source, tmp_path / "local", shard_rows=4)
    with ray_engine.ray_engine(load, workers=1) as engine:
        build_with(engine, source, tmp_path / "ray", shard_rows=4)
    assert len(FeatureTable.open(tmp_path / "ray")) == 16
    assert files(tmp_path / "ray") == files(tmp_path / "local")


class InThisProcess:
    """Takes Ray's place: one worker, here, which gets and returns what a worker elsewhere would."""

    def __init__(self):
        self.exceptions, self.data = SimpleNamespace(RayError=ray.exceptions.RayError), self
        self.DataContext = SimpleNamespace(get_current=SimpleNamespace)
        self.ActorPoolStrategy = SimpleNamespace

    def remote(self, **share):
        return lambda kind: SimpleNamespace(remote=lambda load: Actor(kind(load)))

    def get(self, answer):
        return answer

    def kill(self, actor):
        pass

    def from_items(self, rows, override_num_blocks):
        return SimpleNamespace(map=partial(self._mapped, rows))

    def _mapped(self, rows, kind, fn_constructor_args, **options):
        worker = kind(*fn_constructor_args)
        return SimpleNamespace(iter_rows=lambda: map(worker, pickle.loads(pickle.dumps(rows))))


class Actor:
    """Answers when its methods' `remote` is called, as an actor of Ray does."""

    def __init__(self, held):
        self._held = held

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._held, name))


def build_in_this_process(folder, **model):
    engine = ray_engine.RayEngine(InThisProcess(), partial(HashingModel, **model), 1, {"num_cpus": 1})
    return build_with(engine, preferences(), folder, None, SHARD_ROWS)


def assert_one_line_and_the_rest_kept(refused, kind, folder, whole):
    assert type(refused.value) is kind
    assert len(str(refused.value).splitlines()) == 1
    left = FeatureTable.open(folder)
    assert not left.complete
    assert len(left) > 0
    build_features(HashingModel(), preferences(), folder, shard_rows=SHARD_ROWS)
    assert files(folder) == whole


def test_a_block_that_kills_its_workers_is_one_line_and_the_rest_is_kept(cluster, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    with pytest.raises(WorkerError, match=r"Ray workers failed \(.*what is embedded is kept") as refused:
        build_on_ray(tmp_path, 1, fails_at=preferences().preferences[2].chosen, how="dies")
    assert_one_line_and_the_rest_kept(refused, WorkerError, tmp_path, whole)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raises", WorkerError, "a Ray worker failed with RuntimeError: out of luck"),
        ("nan", InputError, "hashing@0123456 gave NaN or infinity for response"),
    ],
)
def test_a_block_that_cannot_be_embedded_is_one_line_and_the_rest_is_kept(whole, tmp_path, how, kind, message):
    """Workers answer with what went wrong, so that no cluster is needed to see what becomes of it."""
    with pytest.raises(kind, match=message) as refused:
        build_in_this_process(tmp_path, fails_at=preferences().preferences[2].chosen, how=how)
    assert_one_line_and_the_rest_kept(refused, kind, tmp_path, whole)


def test_one_worker_in_this_process_gives_the_same_files(whole, tmp_path):
    build_in_this_process(tmp_path)
    assert files(tmp_path) == whole


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
from qbrm import cli, reward_models
from qbrm.features import build
import torch

def load(name):
    from fixtures.hashing_model import HashingModel
    return HashingModel(delay=0.3)

torch.set_num_threads(3)
build.build_with.__defaults__ = (None, {shard_rows})
reward_models.load_reward_model = load
sys.argv = ["qbrm", "embed", {source!r}, "--out", {out!r}, "--engine", "ray", "--workers", "1"]
cli.main()
"""


@pytest.fixture
def session():
    """A folder for a cluster's own files; its sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_stopped_command_leaves_no_process_and_the_rerun_continues(whole, tmp_path, session, how):
    source, out = tmp_path / "prefs.jsonl", tmp_path / "out"
    write_jsonl(source, preferences())
    program = COMMAND.format(shard_rows=SHARD_ROWS, source=str(source), out=str(out))
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "RAY_TMPDIR": str(session)}
    command = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    wait_until(lambda: len(list(out.glob("*.arrow"))) >= 2)
    if how is signal.SIGINT:
        os.killpg(command.pid, how)  # as a terminal does: every process of the group
    else:
        command.kill()
    _, errors = command.communicate(timeout=60)
    if how is signal.SIGINT:
        assert command.returncode == 130
        assert errors.splitlines()[-1] == "qbrm: interrupted; the same command continues where it stopped."
        assert "Traceback" not in errors
    wait_until(lambda: not processes_of(session))
    left = FeatureTable.open(out)
    assert 0 < len(left) < 80
    model = HashingModel()
    build_features(model, preferences(), out, shard_rows=SHARD_ROWS)
    assert files(out) == whole


def write_jsonl(path, source):
    lines = [
        {"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": list(p.rejected), "category": p.category}
        for p in source
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def wait_until(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(folder):
    """Processes with the folder, which is the cluster's own, on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 8.0}], None, (1, {"num_cpus": 8})),
        ([{"CPU": 8.0}], 3, (3, {"num_cpus": 2})),
        ([{"CPU": 8.0}, {"CPU": 4.0}], None, (2, {"num_cpus": 4})),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 2.0}], None, (4, {"num_gpus": 1})),
        ([{"CPU": 8.0, "GPU": 4.0}] * 2, 4, (4, {"num_gpus": 2})),
        ([{"CPU": 8.0, "GPU": 4.0}] * 2, 1, (1, {"num_gpus": 4})),
        ([{"GPU": 4.0}, {"GPU": 2.0}], 2, (2, {"num_gpus": 2})),
    ],
)
def test_every_worker_gets_the_most_that_fits_on_one_machine(nodes, workers, expected):
    assert share_out(nodes, workers) == expected


def test_more_workers_than_gpus_are_refused():
    with pytest.raises(InputError, match="5 workers for the 4 GPUs of the Ray cluster; expected 1 to 4"):
        share_out([{"CPU": 8.0, "GPU": 2.0}] * 2, 5)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch):
    def refuse(**options):
        raise ConnectionError("nobody there\nat all")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "203.0.113.1:6379")
    with pytest.raises(InputError, match=r"no Ray cluster on 203\.0\.113\.1:6379 \(ConnectionError: nobody there"):
        ray_engine.ray_engine(HashingModel).__enter__()


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    engine = ray_engine.ray_engine(HashingModel)
    with pytest.raises(InputError, match=r"not installed; pip install 'qbrm\[ray\]'"):
        engine.__enter__()
