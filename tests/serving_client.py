"""A running server and a plain client, for the tests of serving: the production configuration on a small model."""

import contextlib
import http.client
import json
import socket
import threading
import time

import torch
from test_comparison import DIM, FakeEncoder

from qbrm import EnergyRewardModel
from qbrm.energies import SemiQuantumRBM
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.trunk import Trunk
from qbrm.serving.app import create_app
from qbrm.serving.server import configure
from qbrm.serving.settings import Limits

MODEL_NAME = "tea-model-7"
PROMPT = "What is tea?"
RESPONSES = ["A drink.", "Water from clouds.", "A kind of stone.", "Hard, mostly."]


def small_model(seed=0):
    """A refined reward model over the fake encoder, no parameter of it zero."""
    torch.manual_seed(seed)
    trunk = Trunk(DIM, size=6, width=8)
    torch.nn.init.normal_(trunk.head.weight)
    score = SemiQuantumRBM(6 + DIM, hidden=4)
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return EnergyRewardModel(EncoderRewardModel(FakeEncoder(), trunk), score)


class Reply:
    """Status, headers and body of an answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def detail(self):
        """The one line that a refusal gives."""
        assert set(self.json) == {"detail"}
        assert "\n" not in self.json["detail"]
        return self.json["detail"]


class Served:
    """Where a server listens, and what it serves.

    Args:
        model: what is served.
        address: host and port.
        server: uvicorn's.
    """

    def __init__(self, model, address, server):
        self.model, self.address, self.server = model, address, server

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    def request(self, method, path, body=None, headers=None, raw=False):
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        try:
            if body is not None and not raw:
                body = json.dumps(body).encode()
            kind = {"content-type": "application/json"} if body is not None else {}
            connection.request(method, path, body, {**kind, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def connect(self):
        connection = socket.create_connection(self.address, timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def metric(self, name):
        """Sum of a counter over its labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


@contextlib.contextmanager
def serving(model=None, limits=None, **options):
    """Serve a model on a free port of loopback, and stop when done."""
    model, limits = model or small_model(), limits or Limits()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = configure(create_app(model, MODEL_NAME, limits, **options), limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Served(model, listener.getsockname(), server)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post_bytes(path, body, **headers):
    """A whole request, as it goes over the wire."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"host": "localhost", "content-type": "application/json", "content-length": len(payload)} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + payload


def read_all(connection):
    """Everything until the server closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
