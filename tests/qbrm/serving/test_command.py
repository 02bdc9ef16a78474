"""`qbrm serve` says in one line what it serves, or what stands in its way."""

import socket
import sys

import pytest

from fixtures.commands import Ended
from fixtures.fake_encoder import FakeEncoder
from fixtures.serving_client import small_model
from qbrm import cli
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm.reward_models import REWARD_MODELS
from qbrm.serving import serve
from qbrm.serving import server as serving_server
from qbrm.serving.settings import ServerSettings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    monkeypatch.delenv("QBRM_TOKEN", raising=False)
    small_model().save_pretrained(tmp_path / "tea")
    return tmp_path / "tea"


@pytest.fixture
def qbrm_serve(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qbrm", "serve", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code or 0, *capsys.readouterr())

    return run


def test_on_loopback_no_warning_is_needed(folder, started, qbrm_serve):
    ended = qbrm_serve(folder, "--port", 0)
    assert (ended.code, ended.err, len(started)) == (0, "", 1)
    assert ended.out.startswith("serving")
    assert "http://127.0.0.1:" in ended.out
    assert "no token" not in ended.out


def test_on_all_interfaces_without_a_token_there_is_a_warning(folder, started, qbrm_serve, monkeypatch):
    ended = qbrm_serve(folder, "--port", 0, "--host", "0.0.0.0")
    assert ended.code == 0
    assert "no token is required from clients that reach 0.0.0.0" in ended.out
    monkeypatch.setenv("QBRM_TOKEN", "correct-horse")
    ended = qbrm_serve(folder, "--port", 0, "--host", "0.0.0.0")
    assert "no token" not in ended.out
    assert "correct-horse" not in ended.out


def test_a_port_in_use_is_told_before_the_model_is_loaded(folder, qbrm_serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = qbrm_serve("no such model", "--port", taken.getsockname()[1]).refused()
    assert "cannot listen on 127.0.0.1" in line
    assert "Address already in use" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing-folder", "--port", 0], "missing-folder"),
        (["{folder}", "--port", 0, "--token-file", "missing-token"], "token file missing-token cannot be read"),
        (["{folder}", "--port", 70000], "65535"),
        (["{folder}", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["{folder}", "--timeout", 0], "limit answer seconds is 0"),
        (["{folder}", "--max-body", -1], "limit body bytes is"),
        (["{folder}", "--max-body", "nan"], "limit body bytes is nan MiB; expected a finite number above 0"),
        (["{folder}", "--max-body", "inf"], "limit body bytes is inf MiB"),
        (["{folder}", "--timeout", "nan"], "limit answer seconds is nan; expected more than 0, at most"),
        (["{folder}", "--timeout", "inf"], "limit answer seconds is inf"),
        (["{folder}", "--batch-wait", "nan"], "limit batch seconds is nan"),
        (["{folder}", "--max-responses", 10**30], "limit responses is 1e+30"),
        (["{folder}", "--token", "secret"], "--token"),
    ],
)
def test_what_stands_in_the_way_is_told_in_one_line(folder, qbrm_serve, arguments, told):
    line = qbrm_serve(*[str(argument).format(folder=folder) for argument in arguments]).refused()
    assert told in line


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "fastapi_swagger"])
def test_without_the_packages_for_serving_the_extra_is_named(folder, monkeypatch, missing):
    for name in [name for name in sys.modules if name.startswith("qbrm.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"serving needs {missing}; .*pip install 'qbrm\[serve\]'"):
        serve(ServerSettings(str(folder), port=0), Reporter())


def test_as_many_connections_are_accepted_as_there_are_files_for(monkeypatch):
    resource = pytest.importorskip("resource", reason="this system has no limit of open files to ask for")
    limits = {"soft": 100, "hard": 1000}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.update(soft=pair[0]))
    monkeypatch.setattr(serving_server.PatientProtocol, "most_connections", 2048)
    serving_server._make_room_for(2048)
    assert limits["soft"] == 1000
    assert serving_server.PatientProtocol.most_connections == 1000 - serving_server.SPARE_FILES
