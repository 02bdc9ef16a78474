"""Fixtures of all tests: random scores, commands, and how many threads there are."""

import logging
import sys

import pytest
import torch

from fixtures.commands import Ended
from fixtures.scores import by_hand, concatenated_network, randomise
from qbrm import cli
from qbrm.energies import EBRM, RBM, SemiQuantumRBM


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much where the other core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=["rbm", "sqrbm-1", "sqrbm-2", "sqrbm-3"])
def machine(request):
    """Builds a Boltzmann score whose parameters and units are all random and none zero, in double precision."""

    def build(dim=3, hidden=4, seed=0, size=0.7, units=True, **settings):
        kind, _, axes = request.param.partition("-")
        axes_setting = {"axes": int(axes)} if axes else {}
        score = {"rbm": RBM, "sqrbm": SemiQuantumRBM}[kind](dim, hidden=hidden, **axes_setting, **settings)
        randomise(score, seed, size)
        if units:
            generator = torch.Generator().manual_seed(seed + 1)
            score.reward_loc.fill_(1.3)
            score.reward_scale.fill_(2.1)
            score.embedding_loc.copy_(torch.randn(dim, generator=generator))
            score.embedding_scale.copy_(0.5 + torch.rand(dim, generator=generator))
        return score.double().eval()

    return build


@pytest.fixture(scope="session")
def small_ebrm():
    """Builds an EBRM with random units and weights scaled up until f has hills and valleys, in double precision."""

    def build(dim=3, seed=0, size=3.0):
        torch.manual_seed(seed)
        score = EBRM(dim)
        with torch.no_grad():
            for parameter in score.parameters():
                parameter.mul_(size)
        score.reward_loc.fill_(1.3)
        score.reward_scale.fill_(2.1)
        return score.double().eval()

    return build


@pytest.fixture(scope="session")
def free_energy():
    """f(e, r) at any number of rewards per example, in double precision and without a line of qbrm."""
    return by_hand


@pytest.fixture(scope="session")
def published_network():
    """Turns an EBRM into the published network f(embedding, standardised rewards) with a copy of its weights."""
    return concatenated_network


@pytest.fixture
def qbrm_command(monkeypatch, capsys):
    """Runs `qbrm ...` in this process; gives how it ended."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qbrm", *map(str, arguments)])
        monkeypatch.setattr(logging.getLogger("qbrm"), "handlers", [])
        monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def command(qbrm_command):
    """Runs `qbrm ...`; gives its exit code, what it printed and its one line of error."""

    def run(*arguments):
        ended = qbrm_command(*arguments)
        assert len(ended.err.splitlines()) == bool(ended.code), ended.err
        return ended.code, ended.out, ended.err

    return run


@pytest.fixture
def started(monkeypatch):
    """Takes the server's place: notes the application instead of serving it."""
    apps = []

    class Server:
        def __init__(self, app):
            apps.append(app)

        def run(self, sockets):
            return

    monkeypatch.setattr("qbrm.serving.server.configure", lambda app, limits: Server(app))
    monkeypatch.setattr("qbrm.serving.server.signal.signal", lambda *arguments: None)
    return apps


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports without plots, which take two seconds to draw for every test set."""
    monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])


@pytest.fixture
def unrendered(monkeypatch):
    """Plots that are drawn and written, but not turned into pixels, which takes most of the time."""
    monkeypatch.setattr("qbrm_lab.report.plots.gallery.png_bytes", lambda figure: b"PNG")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 pairs, so that a table of some hundred pairs has many."""
    monkeypatch.setattr("qbrm.features.stream.BLOCK_PAIRS", 16)
