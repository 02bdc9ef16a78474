"""TRL gets its rewards from a server: the same as without one, or an error, never none."""

import asyncio
import pickle
import threading
import time
from contextlib import contextmanager

import pytest
from aiohttp import web

from fixtures.serving_client import serving
from qbrm import InputError, RewardClient, RewardFunction
from qbrm.rlhf.served import ROWS, UnavailableError

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["What is tea?", [{"role": "user", "content": "Rain?"}]]
COMPLETIONS = ["A drink.", [{"role": "assistant", "content": "Water.", "tool_calls": None}]]
GOOD = {"rewards": [{"reward": 1.5, "base": 1.0, "std": 0.1, "quantiles": {"0.5": 1.4}}]}


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("fastapi")
    with serving(token="secret") as served:
        yield served


@contextmanager
def answering(*answers, retry_after=None):
    """A server that gives one answer after the other, the last again and again; counts the requests."""
    wait = {} if retry_after is None else {"retry-after": retry_after}
    calls, loop, started = [], asyncio.new_event_loop(), threading.Event()

    async def answer(request):
        calls.append(await request.json())
        given = answers[min(len(calls), len(answers)) - 1]
        if given == "slow":
            await asyncio.sleep(0.6)
        if given == "lost":
            request.transport.close()
        return (
            web.json_response(given)
            if isinstance(given, dict)
            else web.Response(status=given, text="busy", headers=wait)
        )

    async def run():
        app = web.Application()
        app.router.add_post("/v1/score", answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        run.port = runner.addresses[0][1]
        started.set()
        return runner

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(run(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{run.port}", calls
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def ask(client, prompts=("Why?",), completions=("So.",), **columns):
    return asyncio.run(client(prompts=list(prompts), completions=list(completions), **columns))


def test_a_server_gives_what_the_model_gives_and_logs_the_same(server):
    client, local = RewardClient(server.url, token="secret"), RewardFunction(server.model)
    logged = {"served": {}, "local": {}}
    served = ask(client, PROMPTS, COMPLETIONS, log_metric=logged["served"].__setitem__, trainer_state=None)
    assert served == pytest.approx(local(PROMPTS, COMPLETIONS, log_metric=logged["local"].__setitem__), abs=1e-5)
    assert logged["served"] == pytest.approx(logged["local"], abs=1e-5)
    assert {"qbrm/base", "qbrm/std", "qbrm/quantile_0.05", "qbrm/quantile_0.95"} <= logged["local"].keys()


def test_a_batch_of_several_requests_keeps_its_order(server):
    answers = [f"answer {number}" for number in range(ROWS + 2)]
    prompts = ["Why?"] * len(answers)
    rewards = ask(RewardClient(server.url, token="secret"), prompts, answers)
    assert rewards == pytest.approx(server.model.score(prompts, answers).refined.tolist(), abs=1e-5)
    assert ask(RewardClient(server.url, token="secret"), [], []) == []


def test_the_token_may_come_from_the_environment(server, monkeypatch):
    monkeypatch.delenv("QBRM_TOKEN", raising=False)
    with pytest.raises(InputError, match="401"):
        ask(RewardClient(server.url))
    monkeypatch.setenv("QBRM_TOKEN", "secret")
    assert len(ask(RewardClient(server.url))) == 1


@pytest.mark.parametrize("failure", [503, 502, "slow", "lost"])
def test_a_failure_that_passes_is_tried_again(failure):
    with answering(failure, failure, GOOD) as (url, calls):
        assert ask(RewardClient(url, pause=0.01, timeout=0.2)) == [1.5]
        assert calls == [{"prompts": ["Why?"], "responses": ["So."]}] * 3


def test_a_server_is_given_the_time_that_it_asks_for():
    with answering(429, GOOD, retry_after="1") as (url, _):
        start = time.monotonic()
        assert ask(RewardClient(url, pause=0.01)) == [1.5]
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize(("failure", "said"), [(503, "503: busy"), ("slow", "Timeout")])
def test_a_failure_that_stays_is_an_error_with_its_reason(failure, said):
    with answering(failure) as (url, calls):
        with pytest.raises(UnavailableError, match=f"in 2 attempts .*{said}"):
            ask(RewardClient(url, attempts=2, pause=0.01, timeout=0.2))
        assert len(calls) == 2


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 .*in 2 attempts"):
        ask(RewardClient("http://127.0.0.1:1", attempts=2, pause=0.01))


@pytest.mark.parametrize(
    "answer",
    [
        422,
        404,
        {"detail": "no"},
        {"rewards": []},
        {"rewards": [{**GOOD["rewards"][0], "reward": None}]},
        {"rewards": [{**GOOD["rewards"][0], "reward": float("nan")}]},
        {"rewards": GOOD["rewards"] * 2},
    ],
    ids=["refused", "not found", "no rewards", "none", "null", "nan", "too many"],
)
def test_an_answer_that_is_no_reward_for_each_is_an_error_at_once(answer):
    with answering(answer) as (url, calls):
        with pytest.raises(InputError, match=url):
            ask(RewardClient(url, pause=0.01))
        assert len(calls) == 1


@pytest.mark.parametrize(
    "options",
    [{"url": "localhost:8000"}, {"attempts": 0}, {"timeout": 0.0}, {"pause": -1.0}],
    ids=str,
)
def test_an_argument_that_is_not_usable_is_refused(options):
    with pytest.raises(InputError, match=str(next(iter(options.values())))):
        RewardClient(**{"url": "http://localhost:8000", **options})


def test_a_client_may_be_sent_to_another_process(server):
    client = pickle.loads(pickle.dumps(RewardClient(server.url, token="secret")))
    assert len(ask(client)) == 1
    assert client.__name__ == "qbrm"
