"""Whatever arrives over the wire, in whatever pace, is answered with a 4xx or a time-out, and the server lives on."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from fixtures.serving_client import PROMPT, RESPONSES, post_bytes, read_all, serving, wait_until
from qbrm.serving import request_limits
from qbrm.serving.http_protocol import PatientProtocol
from qbrm.serving.settings import Limits

SCORE = {"prompts": [PROMPT], "responses": ["A drink."]}
WAIT = 0.4


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    """Small tensors, one thread."""


@pytest.fixture(scope="module")
def running(quick):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(PatientProtocol, "header_seconds", WAIT)
        monkeypatch.setattr(PatientProtocol, "reading_seconds", WAIT)
        monkeypatch.setattr(request_limits, "DISCARDING_SECONDS", WAIT)
        with serving(limits=Limits(body_bytes=100_000, body_seconds=WAIT, buffered_bytes=250_000)) as served:
            yield served


@pytest.fixture
def served(running):
    yield running
    assert running.post("/v1/score", SCORE).status == 200, "the server does not answer any more"
    wait_until(lambda: len(running.server.server_state.tasks) == 0)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def exchange(served, sent):
    with served.connect() as connection:
        connection.sendall(sent)
        return read_all(connection)


def trickle(connection, data, pause=0.05):
    """Send byte by byte until the other side has had enough."""
    try:
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            time.sleep(pause)
    except OSError:
        return


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / FTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\ncontent-length: 8\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: " + b"9" * 6000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % number for number in range(20_000)),
        b"\r\n" * 50_000,
    ],
    ids=[
        "no http", "tls", "protocol", "no colon", "two hosts", "negative length", "two lengths", "chunks",
        "endless length", "long path", "long header", "many headers", "blank lines",
    ],
)  # fmt: skip
def test_garbage_is_refused_and_the_connection_closed(served, sent):
    with served.connect() as connection:
        try:
            connection.sendall(sent)
            answer = read_all(connection)
        except ConnectionError:  # closed with unread garbage on its way: the answer is lost with it
            return
        assert 400 <= status_of(answer) < 500


def test_a_connection_that_says_nothing_is_closed(served):
    with served.connect() as connection:
        start = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - start < 10 * WAIT


def test_headers_that_trickle_in_are_given_up_however_lively_the_trickle(served):
    with served.connect() as connection:
        start = time.monotonic()
        sender = threading.Thread(target=trickle, args=(connection, b"GET / HTTP/1.1\r\nx: " + b"y" * 1000))
        sender.start()
        assert status_of(read_all(connection)) == 408
        assert time.monotonic() - start < 5 * WAIT
        sender.join()


def test_headers_that_trickle_in_after_a_first_request_are_given_up_too(served):
    with served.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert status_of(connection.recv(65536)) == 200
        sender = threading.Thread(target=trickle, args=(connection, b"GET / HTTP/1.1\r\nx: " + b"y" * 1000))
        sender.start()
        assert status_of(read_all(connection)) == 408
        sender.join()


def test_a_body_that_trickles_in_is_given_up(served):
    with served.connect() as connection:
        start = time.monotonic()
        request = post_bytes("/v1/score", b"x" * 1000)
        connection.sendall(request[:-1000])
        sender = threading.Thread(target=trickle, args=(connection, request[-1000:]))
        sender.start()
        answer = read_all(connection)
        assert status_of(answer) == 408
        assert b"did not arrive" in answer
        assert time.monotonic() - start < 5 * WAIT
        sender.join()


def test_a_body_that_never_comes_is_given_up(served):
    assert status_of(exchange(served, post_bytes("/v1/score", SCORE)[:-10])) == 408


def test_a_complete_request_on_a_half_closed_connection_is_answered(served):
    with served.connect() as connection:
        connection.sendall(post_bytes("/v1/score", SCORE))
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
        assert status_of(answer) == 200
        assert len(json.loads(answer.split(b"\r\n\r\n", 1)[1])["rewards"]) == 1


@pytest.mark.parametrize("cut", [5, 60, -10], ids=["first line", "headers", "body"])
def test_an_incomplete_request_on_a_half_closed_connection_is_refused(served, cut):
    with served.connect() as connection:
        connection.sendall(post_bytes("/v1/score", SCORE)[:cut])
        connection.shutdown(socket.SHUT_WR)
        assert status_of(read_all(connection)) == 400


@pytest.mark.parametrize("cut", [0, 5, 60, -10, None])
def test_a_client_that_leaves_costs_nothing(served, cut):
    for _ in range(20):
        connection = served.connect()
        connection.sendall(post_bytes("/v1/score", SCORE)[:cut])
        connection.close()


def test_a_huge_body_is_refused_to_a_client_that_sends_before_it_listens(served):
    answer = exchange(served, post_bytes("/v1/score", b" " * 5_000_000))
    assert status_of(answer) == 413
    assert b"at most" in answer


def test_a_huge_body_is_refused_before_it_is_sent_where_the_client_asks(served):
    with served.connect() as connection:
        connection.sendall(post_bytes("/v1/score", b"", content_length=10**12, expect="100-continue"))
        assert status_of(read_all(connection)) == 413


def test_a_huge_body_of_unknown_size_is_refused(served):
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    head = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    answer = exchange(served, head + b"transfer-encoding: chunked\r\n\r\n" + 12 * chunk + b"0\r\n\r\n")
    assert status_of(answer) == 413


def test_bodies_of_many_connections_together_cannot_fill_the_memory(served):
    held = [served.connect() for _ in range(6)]
    try:
        for connection in held:
            connection.sendall(post_bytes("/v1/score", b" " * 90_000)[:-1])
        statuses = [status_of(read_all(connection)) for connection in held]
    finally:
        for connection in held:
            connection.close()
    assert set(statuses) == {408, 503}
    assert statuses.count(408) == 2


def test_a_client_that_does_not_read_its_answers_is_cut_off(served):
    open_connections = served.server.server_state.connections
    wait_until(lambda: len(open_connections) == 0)
    with served.connect() as connection:
        connection.sendall(20 * b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wait_until(lambda: [one for one in open_connections if one.flow.write_paused])
        start = time.monotonic()
        wait_until(lambda: len(open_connections) == 0)
        assert time.monotonic() - start < 10 * WAIT


def test_pipelined_requests_are_answered_in_their_order(served):
    asked = [{"prompts": [PROMPT], "responses": [response]} for response in RESPONSES]
    sent = b"".join(post_bytes("/v1/score", body) for body in asked[:-1])
    answer = exchange(served, sent + post_bytes("/v1/score", asked[-1], connection="close"))
    bodies = [json.loads(part.split(b"\r\n\r\n", 1)[1]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    rewards = [body["rewards"][0]["reward"] for body in bodies]
    assert rewards == pytest.approx(served.model.score([PROMPT] * 4, RESPONSES).refined.tolist(), abs=1e-5)


def test_connections_beyond_the_limit_are_closed_until_there_is_room(monkeypatch):
    with serving() as served:
        monkeypatch.setattr(PatientProtocol, "most_connections", 5)
        monkeypatch.setattr(PatientProtocol, "header_seconds", 60)
        idle = [served.connect() for _ in range(5)]
        wait_until(lambda: len(served.server.server_state.connections) == 5)
        assert is_closed_at_once(served)
        for connection in idle:
            connection.close()
        wait_until(lambda: len(served.server.server_state.connections) == 0)
        assert served.post("/v1/score", SCORE).status == 200


def is_closed_at_once(served):
    with served.connect() as connection:
        try:
            return read_all(connection) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def test_a_crowd_of_slow_clients_does_not_keep_others_out(served):
    crowd = [served.connect() for _ in range(100)]
    try:
        for connection in crowd:
            connection.sendall(b"POST /v1/score HTTP/1.1\r\nx:")
        start = time.monotonic()
        assert served.post("/v1/score", SCORE).status == 200
        assert time.monotonic() - start < 2
    finally:
        for connection in crowd:
            connection.close()


# A server as the command starts it, whose model takes its time.
SLOW_SERVER = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from fixtures.fake_encoder import FakeEncoder
    from qbrm import cli
    from qbrm.reward_models import REWARD_MODELS

    class Slow(FakeEncoder):
        def embed(self, prompts, responses):
            time.sleep(0 if responses == ["up"] else 1.5)
            return super().embed(prompts, responses)

    REWARD_MODELS["fake"] = Slow
    sys.argv = ["qbrm", "serve", {model!r}, "--port", "0"]
    cli.main()
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory, quick):
    """Starts `qbrm serve` and tells its port."""
    folder = tmp_path_factory.mktemp("served") / "tea"
    from fixtures.serving_client import small_model

    small_model().save_pretrained(folder)
    code = textwrap.dedent(SLOW_SERVER).format(tests=str(Path(__file__).parents[2]), model=str(folder))
    started = []

    def start():
        run = subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        started.append(run)
        line = run.stdout.readline()
        assert line.startswith("serving"), line + run.stderr.read()
        port = int(line.split("http://127.0.0.1:")[1].split()[0])
        wait_until(lambda: can_connect(port))
        return run, port

    yield start
    for run in started:
        run.kill()
        run.communicate()


def can_connect(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_sigterm_ends_the_server_once_all_in_flight_is_answered(process):
    run, port = process()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as asking,
        socket.create_connection(("127.0.0.1", port), timeout=20) as idle,
    ):
        asking.sendall(post_bytes("/v1/score", SCORE))
        time.sleep(0.5)
        run.send_signal(signal.SIGTERM)
        wait_until(lambda: not can_connect(port), seconds=1)
        answer = read_all(asking)
        assert status_of(answer) == 200
        assert len(json.loads(answer.split(b"\r\n\r\n", 1)[1])["rewards"]) == 1
        assert read_all(idle) == b""
    out, err = run.communicate(timeout=20)
    assert run.returncode == 0
    assert out.splitlines()[-1].startswith("stopped")
    assert err == ""
