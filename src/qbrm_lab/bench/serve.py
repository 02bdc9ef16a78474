"""How much of offline batch scoring is left when the same responses come one by one from many clients over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.preferences import read_preferences, sample_source
from qbrm.reward_models import DEFAULT_REWARD_MODEL, load_reward_model
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.bench.scores import BOLTZMANN

CLIENTS = 64
SECONDS = 60.0
OFFLINE_ROWS = 1024
TOLERANCE = 1e-4
PATIENCE = 120.0


class Pair(NamedTuple):
    """A prompt and a response, both as strings."""

    prompt: str
    response: str


class Pairs:
    """Prompts and responses of the usual lengths, as many as are asked for, no text of which comes twice.

    A text is one of the bundled sample set with its words in another order. So nothing can be remembered, and neither
    side gains from prompts that repeat: an encoder that reads a prompt once for all responses of a call would otherwise
    read 192 prompts for thousands of offline rows, but nearly one a row for the server.
    """

    def __init__(self, seed: int) -> None:
        self._generator, self._lock = np.random.default_rng(seed), Lock()
        preferences = read_preferences(sample_source())
        self._pairs = [Pair(p.prompt[-1].content, response) for p in preferences for response in p.responses]
        self._numbers = count()

    def __next__(self) -> Pair:
        with self._lock:
            prompt, response = self._pairs[int(self._generator.integers(len(self._pairs)))]
            return Pair(self._reordered(prompt), self._reordered(response))

    def draw(self, rows: int) -> list[Pair]:
        """The next `rows` pairs."""
        return [next(self) for _ in range(rows)]

    def _reordered(self, text: str) -> str:
        return " ".join([str(next(self._numbers)), *self._generator.permutation(text.split())])


class Client(Thread):
    """Asks for one reward at a time, over one connection, until a time on the clock of :func:`time.monotonic`."""

    def __init__(self, address: tuple[str, int], pairs: Pairs, until: float) -> None:
        super().__init__(daemon=True)
        self._address, self._pairs, self._until = address, pairs, until
        self.answers: list[tuple[Pair, float]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """Ask."""
        connection = HTTPConnection(*self._address, timeout=PATIENCE)
        while time.monotonic() < self._until:
            pair = next(self._pairs)
            try:
                self.answers.append((pair, _ask(connection, [pair])[0]))
            except (OSError, HTTPException, ValueError, KeyError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()


class Offline:
    """The served model in this process too, and what scoring with it has cost so far."""

    def __init__(self, model: EnergyRewardModel) -> None:
        self._model = model
        self.rows, self.seconds, self.cpu_seconds = 0, 0.0, 0.0

    def score(self, pairs: list[Pair]) -> Tensor:
        """Refined rewards of all pairs, in one call."""
        start, cpu_start = time.perf_counter(), time.process_time()
        refined = self._model.score([pair.prompt for pair in pairs], [pair.response for pair in pairs]).refined
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu_start
        self.rows += len(pairs)
        return refined


def bench_serve(seed: int) -> list[dict[str, Any]]:
    """Compare `qbrm serve` under concurrent clients with offline calls for the same responses, in one run.

    Other work on the machine changes `ratio_to_offline`; `cpu_ratio_to_offline` compares responses per second of
    processor time, all of the server's process included, and is None where the operating system does not report it.
    """
    pairs = Pairs(seed)
    with TemporaryDirectory() as folder:
        _random_model(seed).save_pretrained(folder)
        model = EnergyRewardModel.from_pretrained(folder)
        Offline(model).score(pairs.draw(CLIENTS))
        offline = Offline(model)
        with _server(Path(folder)) as address:
            _ask(HTTPConnection(*address, timeout=PATIENCE), pairs.draw(CLIENTS))
            offline.score(pairs.draw(OFFLINE_ROWS))
            cpu_before = _cpu_seconds(address)
            clients, seconds = _load(address, pairs)
            cpu_after = _cpu_seconds(address)
        answers = [answer for client in clients for answer in client.answers]
        expected = offline.score([pair for pair, _ in answers])
    wrong = (torch.tensor([reward for _, reward in answers]) - expected).abs() > TOLERANCE
    served_per_s, offline_per_s = len(answers) / seconds, offline.rows / offline.seconds
    cpu_ratio = None
    if cpu_before is not None and cpu_after is not None:
        cpu_ratio = len(answers) / (cpu_after - cpu_before) * offline.cpu_seconds / offline.rows
    row = {
        "clients": len(clients),
        "seconds": seconds,
        "requests": len(answers),
        "errors": sum(len(client.errors) for client in clients),
        "wrong": int(wrong.sum()),
        "served_per_s": served_per_s,
        "offline_per_s": offline_per_s,
        "ratio_to_offline": served_per_s / offline_per_s,
        "cpu_ratio_to_offline": cpu_ratio,
    }
    return [row]


def _random_model(seed: int) -> EnergyRewardModel:
    torch.manual_seed(seed)
    encoder = load_reward_model(DEFAULT_REWARD_MODEL)
    trunk = Trunk(encoder.dim)
    torch.nn.init.normal_(trunk.head.weight)
    return EnergyRewardModel(EncoderRewardModel(encoder, trunk), BOLTZMANN["sqrbm"](trunk.dim))


def _load(address: tuple[str, int], pairs: Pairs) -> tuple[list[Client], float]:
    start = time.monotonic()
    clients = [Client(address, pairs, start + SECONDS) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return clients, time.monotonic() - start


def _ask(connection: HTTPConnection, pairs: list[Pair]) -> list[float]:
    body = json.dumps({"prompts": [pair.prompt for pair in pairs], "responses": [pair.response for pair in pairs]})
    connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise ValueError(f"status {response.status}: {answer['detail']}")
    return [float(reward["reward"]) for reward in answer["rewards"]]


def _cpu_seconds(address: tuple[str, int]) -> float | None:
    connection = HTTPConnection(*address, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    match = re.search(r"^process_cpu_seconds_total (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
    return None if match is None else float(match[1])


@contextmanager
def _server(model: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "qbrm", "serve", str(model), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "QBRM_TOKEN"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment | {"PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        try:
            printed = server.stdout.readline()
            url = re.search(r"http://\S+", printed)
            if url is None:
                raise RuntimeError(f"qbrm serve did not start: {printed!r}")
            parts = urlsplit(url[0])
            address = parts.hostname or "", parts.port or 0
            _wait_for(address)
            yield address
        finally:
            server.terminate()


def _wait_for(address: tuple[str, int]) -> None:
    for _ in range(100):
        try:
            HTTPConnection(*address, timeout=PATIENCE).request("GET", "/readyz")
            return
        except ConnectionError:
            time.sleep(0.1)
    raise RuntimeError("qbrm serve does not listen.")
