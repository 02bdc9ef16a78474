"""No request keeps the server from answering others, takes much memory, or brings down what it does not concern."""

import asyncio
import contextlib
import gc
import http.client
import json
import logging
import os
import threading
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fixtures.hostile_requests import hostile_bodies
from fixtures.serving_client import PROMPT, post_bytes, read_all, serving, small_model, wait_until
from qbrm.serving.request_limits import has_more_marks
from qbrm.serving.schemas import CompareRequest, ScoreRequest
from qbrm.serving.settings import Limits

SCORE = {"prompts": [PROMPT], "responses": ["A drink."]}
BODIES = hostile_bodies(2**20)
EXAMPLES = int(os.environ.get("QBRM_EXAMPLES", "200"))
LONGEST_PAUSE = 0.2


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    """Small tensors, one thread."""


@pytest.fixture(scope="module")
def served(quick):
    gc.collect()
    gc.freeze()  # as `qbrm serve` does: the garbage of a whole test run is not the server's
    with serving() as running:
        yield running
    gc.unfreeze()


class Watched:
    """A model that notes what it scores, waits while told to, and fails as told on the word poison."""

    def __init__(self):
        self.model, self.seen, self.free, self.error = small_model(), [], threading.Event(), None
        self.free.set()

    def score(self, prompts, responses):
        self.seen.extend(responses)
        assert self.free.wait(10)
        if "poison" in responses and self.error is not None:
            raise self.error
        found = self.model.score(prompts, responses)
        return found._replace(mean=found.mean * float("nan")) if "poison" in responses else found


@pytest.fixture
def watched(quick):
    model = Watched()
    with serving(model, Limits(waiting_tokens=100)) as running:
        yield running
        model.free.set()


@contextlib.contextmanager
def steps_of_the_loop(monkeypatch):
    """Processor time of every step of event loops meanwhile, which other work on the machine does not lengthen."""
    run, steps = asyncio.events.Handle._run, [0.0]

    def timed(handle):
        start = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - start)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.events.Handle, "_run", timed)
        yield steps


def slowest_health(served, until):
    """Seconds that /healthz takes at most, asked again and again until an event."""
    connection, slowest = http.client.HTTPConnection(*served.address, timeout=20), 0.0
    while True:
        last, start = until.is_set(), time.monotonic()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"alive"}'
        slowest = max(slowest, time.monotonic() - start)
        if last:
            return slowest


def exchange(served, sent):
    with served.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.settimeout(20)
            return read_all(connection)
        return b""


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES)
def test_health_is_told_in_time_whatever_is_being_read(served, monkeypatch, path, body):
    done, answers = threading.Event(), []

    def ask():
        answers.append(served.post(path, body, raw=True))
        done.set()

    idle = threading.Event()
    threading.Timer(0.05, idle.set).start()
    usual = slowest_health(served, idle)
    with steps_of_the_loop(monkeypatch) as steps:
        asking = threading.Thread(target=ask)
        asking.start()
        slowest = slowest_health(served, done)
        asking.join()
    assert answers[0].status in (200, 413, 422)
    assert max(steps) < LONGEST_PAUSE
    assert slowest < LONGEST_PAUSE + 3 * usual


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES)
def test_memory_grows_by_less_than_ten_times_the_body(served, path, body):
    served.post(path, body, raw=True)  # once before: what is made once is not counted
    tracemalloc.start()
    try:
        served.post(path, body, raw=True)
        assert tracemalloc.get_traced_memory()[1] < 10 * max(len(body), 2**20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("request_type", [ScoreRequest, CompareRequest])
def test_a_request_has_one_error_of_a_kind_however_many_it_could_have(request_type):
    wrong = {"prompts": [1] * 1000, "prompt": [{"role": "king"}] * 1000, "responses": [2] * 1000}
    for body in (wrong, dict.fromkeys(map(str, range(1000))), {"responses": [["a"]] * 9}):
        with pytest.raises(ValidationError) as found:
            request_type.model_validate(body)
        assert found.value.error_count() <= 6
    message = {"role": "user", "content": "a"} | dict.fromkeys(map(str, range(1000)))
    with pytest.raises(ValidationError) as found:
        request_type.model_validate({"prompt": [message], "prompts": [[message]], "responses": ["a", "b"]})
    assert found.value.error_count() <= 4


JSON = st.recursive(
    st.text() | st.integers() | st.none(), lambda kind: st.lists(kind) | st.dictionaries(st.text(), kind)
)


@given(JSON)
def test_commas_and_brackets_are_counted_outside_of_strings_alone(value):
    def marks(part):
        if not isinstance(part, (dict, list)):
            return 0
        return 1 + max(0, len(part) - 1) + sum(map(marks, part.values() if isinstance(part, dict) else part))

    for written in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        body = written.encode("utf-8", "surrogatepass")
        assert not has_more_marks(body, marks(value))
        assert marks(value) == 0 or has_more_marks(body, marks(value) - 1)


def test_a_request_whose_client_left_is_not_computed(watched):
    watched.model.free.clear()
    first = threading.Thread(target=watched.post, args=("/v1/score", SCORE))
    first.start()
    wait_until(lambda: watched.model.seen)
    for _ in range(3):
        with watched.connect() as connection:
            connection.sendall(post_bytes("/v1/score", {"prompts": ["a"] * 9, "responses": ["left"] * 9}))
            wait_until(lambda: watched.metric("qbrm_responses_waiting") == 10)
        wait_until(lambda: watched.metric("qbrm_responses_waiting") == 1)
    watched.model.free.set()
    first.join()
    assert watched.post("/v1/score", {"prompts": ["a"], "responses": ["stayed"]}).status == 200
    assert watched.model.seen == ["A drink.", "stayed"]
    assert b'path="/v1/score",status="499"} 3.0' in watched.get("/metrics").body


def test_too_much_waiting_is_429_at_once_and_says_when_to_come_again(watched):
    watched.model.free.clear()
    first = threading.Thread(target=watched.post, args=("/v1/score", SCORE))
    first.start()
    wait_until(lambda: watched.model.seen)
    start = time.monotonic()
    reply = watched.post("/v1/score", {"prompts": ["a"], "responses": ["b" * 500]})
    assert time.monotonic() - start < 2
    assert (reply.status, "try again later" in reply.detail) == (429, True)
    assert int(reply.headers["retry-after"]) >= 1
    watched.model.free.set()
    first.join()


@pytest.mark.parametrize(
    "error", [None, StopIteration("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()], ids=repr
)
def test_a_poisoned_text_fails_alone_and_at_once_and_the_server_lives_on(watched, error):
    watched.model.error = error
    start, answers = time.monotonic(), {}

    def ask(word):
        answers[word] = watched.post("/v1/score", {"prompts": ["a"], "responses": [word]}).status

    asking = [threading.Thread(target=ask, args=(word,)) for word in ("one", "two", "poison", "three")]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert answers == {"one": 200, "two": 200, "poison": 500, "three": 200}
    assert time.monotonic() - start < 5
    assert [watched.get(path).status for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize("text", [b"\\ud800", b"a\\udc00b", b"\\ud83d", b"\\ud83d\\ud83d"])
@pytest.mark.parametrize(
    "body", [b'{"prompts": ["%b"], "responses": ["a"]}', b'{"prompts": ["a"], "responses": ["%b"]}']
)
def test_half_a_surrogate_pair_is_refused(served, body, text):
    reply = served.post("/v1/score", body % text, raw=True)
    assert reply.status == 422
    assert "half a surrogate pair" in reply.detail
    assert served.post("/v1/score", body % b"\\ud83d\\ude00", raw=True).status == 200


@pytest.mark.parametrize("order", [1, -1])
def test_a_request_with_two_lengths_is_refused_and_the_connection_closed(served, order):
    lengths = b"".join([b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"][::order])
    head = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + lengths + b"\r\n"
    answer = exchange(served, head + b"0\r\n\r\n" + post_bytes("/v1/score", SCORE))
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1, "what follows is not taken for another request"


@pytest.mark.parametrize(("size", "status"), [(16_384, 200), (16_385, 431), (60_000, 431)])
@pytest.mark.parametrize("before", [0, 2])
def test_headers_are_limited_to_what_is_documented_however_they_arrive(served, size, status, before):
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: \r\n\r\n"
    request = head.replace(b"x: ", b"x: " + b"y" * (size - len(head)))
    answers = exchange(served, before * head.replace(b"connection: close\r\n", b"") + request).split(b"HTTP/1.1 ")[1:]
    assert [int(answer[:3]) for answer in answers] == before * [200] + [status]


def test_an_upgrade_that_is_not_spoken_is_answered_and_writes_no_log_line(served, caplog):
    caplog.set_level(logging.DEBUG)
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"
    assert status_of(exchange(served, head)) == 200
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_a_body_in_very_many_small_chunks_is_refused(served):
    body = json.dumps(SCORE).encode()
    head = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % letter for letter in body)
    assert status_of(exchange(served, head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")) == 200
    with served.connect() as connection:
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + 5000 * b"1\r\n \r\n")
        assert status_of(read_all(connection)) == 400


VALID = post_bytes("/v1/score", SCORE, connection="close")
PLACES = st.integers(0, len(VALID))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(PLACES, PLACES, st.binary(max_size=12)), max_size=4), st.binary(max_size=40))
def test_whatever_a_client_sends_is_answered_or_closed_and_not_logged(served, caplog, edits, more):
    """With QBRM_EXAMPLES=5000 in the environment, 5,000 malformed requests."""
    sent = VALID
    for start, end, new in edits:
        sent = sent[:start] + new + sent[max(start, end - 40) :]
    with served.connect() as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent + more)
            connection.shutdown(1)
            answer = read_all(connection)
    assert answer == b"" or 200 <= status_of(answer) < 500
    assert served.get("/readyz").status == 200
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("uvicorn", "qbrm"))] == []
