"""Requests of many clients share batches, and nothing else: neither each other's answers nor each other's errors."""

import asyncio
import math
import threading
import time

import pytest
import torch

from fixtures.serving_client import small_model
from qbrm.errors import InputError
from qbrm.serving.batching import Batcher, ModelError, OverloadedError
from qbrm.serving.metrics import Metrics
from qbrm.serving.settings import Limits


class Watched:
    """A model that notes its batches, holds them while told to, and fails on the word poison."""

    error = InputError("poison")

    def __init__(self):
        self.model, self.batches, self.free, self.pause = small_model(), [], threading.Event(), 0
        self.free.set()

    def score(self, prompts, responses):
        self.batches.append(list(responses))
        assert self.free.wait(10)
        time.sleep(self.pause)
        if "poison" in responses:
            raise self.error
        found = self.model.score(prompts, responses)
        bad = torch.tensor([response == "not a number" for response in responses])
        return found._replace(refined=found.refined.masked_fill(bad, float("nan")))

    def refined(self, responses):
        return self.model.score(["p"] * len(responses), responses).refined.tolist()


def run(scenario, **limits):
    """Run scenario(model, ask) in an event loop, with a batcher that is stopped afterwards."""

    async def main():
        model = Watched()
        batcher = Batcher(model, Limits(**limits), Metrics())
        batcher.start()
        model.batcher = batcher

        async def ask(*responses, **options):
            prompts = ["p"] * len(responses)
            return await batcher.ask(prompts, responses, lambda found: found.refined.tolist(), **options)

        try:
            await scenario(model, ask)
        finally:
            model.free.set()
            await batcher.stop()

    asyncio.run(main())


async def collected(model, batches):
    while len(model.batches) < batches:
        await asyncio.sleep(0.001)


def test_what_is_asked_while_the_model_works_goes_through_it_together():
    async def scenario(model, ask):
        model.free.clear()
        first = asyncio.ensure_future(ask("a"))
        await collected(model, 1)
        others = [asyncio.ensure_future(ask(f"b{number}", f"c{number}")) for number in range(5)]
        await asyncio.sleep(0.02)
        model.free.set()
        assert await first == pytest.approx(model.refined(["a"]), abs=1e-5)
        for number, other in enumerate(others):
            assert await other == pytest.approx(model.refined([f"b{number}", f"c{number}"]), abs=1e-5)
        assert [len(batch) for batch in model.batches] == [1, 10]

    run(scenario)


def test_what_comes_within_the_patience_of_a_batch_joins_it():
    async def scenario(model, ask):
        first = asyncio.ensure_future(ask("a"))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, ask("b"))
        assert model.batches == [["a", "b"]]

    run(scenario, batch_seconds=0.5, batch=2)


def test_requests_take_turns_so_that_none_waits_behind_a_large_one():
    async def scenario(model, ask):
        model.free.clear()
        first = asyncio.ensure_future(ask("first"))
        await collected(model, 1)
        large = asyncio.ensure_future(ask(*[f"large {row}" for row in range(9)]))
        small = [asyncio.ensure_future(ask(f"{number}.0", f"{number}.1")) for number in range(2)]
        await asyncio.sleep(0.02)
        model.free.set()
        answers = await asyncio.gather(first, large, *small)
        assert model.batches[1] == ["large 0", "large 1", "0.0", "1.0"]
        assert sorted(model.batches[2]) == ["0.1", "1.1", "large 2", "large 3"]
        assert [len(batch) for batch in model.batches] == [1, 4, 4, 4, 1]
        assert answers[1] == pytest.approx(model.refined([f"large {row}" for row in range(9)]), abs=1e-5)
        assert answers[3] == pytest.approx(model.refined(["1.0", "1.1"]), abs=1e-5)

    run(scenario, batch=4)


def test_a_large_request_leaves_the_model_free_about_every_second():
    async def scenario(model, ask):
        model.pause = 0.25
        await ask("a" * 2400)  # six hundred tokens in a quarter of a second
        await ask(*["b" * 1200] * 12)
        assert 3 <= len(model.batches[1]) <= 8

    run(scenario)


def test_a_whole_request_is_never_split():
    async def scenario(model, ask):
        model.free.clear()
        asked = [asyncio.ensure_future(ask("a", "b")), asyncio.ensure_future(ask("c", "d", "e", whole=True))]
        await collected(model, 1)
        model.free.set()
        await asyncio.gather(*asked)
        assert ["c", "d", "e"] in model.batches

    run(scenario, batch=2)


def test_a_batch_is_full_at_so_many_tokens():
    async def scenario(model, ask):
        words = [letter * 400 for letter in "abcdef"]
        await ask(*words)
        assert model.batches == [[words[row], words[row + 1]] for row in (0, 2, 4)]

    run(scenario, batch_tokens=250)


@pytest.mark.parametrize(
    "error",
    [InputError("poison"), RuntimeError("x"), StopIteration("x"), SystemExit(3), KeyboardInterrupt(), None],
    ids=["refused", "failure", "stop iteration", "exit", "interrupt", "not a number"],
)
@pytest.mark.parametrize("place", [0, 7, 15])
def test_whatever_is_raised_reaches_one_request_of_sixteen_in_ten_calls(error, place):
    async def scenario(model, ask):
        model.error = error
        model.free.clear()
        first = asyncio.ensure_future(ask("first"))
        await collected(model, 1)
        words = [f"b{number}" for number in range(16)]
        words[place] = "not a number" if error is None else "poison"
        asked = [asyncio.ensure_future(ask(word)) for word in words]
        await asyncio.sleep(0.02)
        model.free.set()
        await first
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found.pop(place), InputError if isinstance(error, InputError) else ModelError)
        words.pop(place)
        assert [reward for one in found for reward in one] == pytest.approx(model.refined(words), abs=1e-5)
        assert len(model.batches) - 1 <= 2 * math.log2(16) + 2
        assert len(await ask("later")) == 1

    run(scenario)


def test_a_thread_that_died_is_replaced_when_somebody_asks():
    async def scenario(model, ask):
        batcher = model.batcher
        batcher._worker = dead = threading.Thread()
        dead.start()
        dead.join()
        assert (batcher.alive, batcher.ready) == (False, False)
        assert len(await ask("a")) == 1
        assert (batcher.alive, batcher.ready) == (True, True)

    run(scenario)


def test_a_request_that_left_takes_no_further_turn():
    async def scenario(model, ask):
        model.free.clear()
        first = asyncio.ensure_future(ask("first"))
        await collected(model, 1)
        large = asyncio.ensure_future(ask(*[f"large {row}" for row in range(9)]))
        await asyncio.sleep(0)
        large.cancel()
        await asyncio.sleep(0)
        model.free.set()
        await first
        await ask("a")
        assert model.batches == [["first"], ["a"]]

    run(scenario, batch=4)


def test_a_request_that_has_given_up_costs_the_model_nothing():
    async def scenario(model, ask):
        model.free.clear()
        first = asyncio.ensure_future(ask("a"))
        await collected(model, 1)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
            await ask("b")
        model.free.set()
        with pytest.raises(TimeoutError):
            await first
        await ask("c")
        assert model.batches == [["a"], ["c"]]

    run(scenario, answer_seconds=0.1)


def test_more_tokens_than_may_wait_are_refused_at_once_and_few_are_not():
    async def scenario(model, ask):
        model.free.clear()
        waiting = asyncio.ensure_future(ask("a" * 400, "b" * 400))
        await collected(model, 1)
        with pytest.raises(OverloadedError, match="2 responses of about 202 tokens are waiting already") as refused:
            await ask("c" * 400)
        assert refused.value.retry_seconds >= 1
        few = asyncio.ensure_future(ask("d"))
        await asyncio.sleep(0)
        model.free.set()
        await waiting
        await few
        assert len(await ask("c" * 4000)) == 1, "alone, any request has room"

    run(scenario, waiting_tokens=300)


def test_what_cannot_be_answered_in_time_is_refused_at_once():
    async def scenario(model, ask):
        model.pause = 0.2
        await ask("a" * 4000)  # a thousand tokens in 0.2 seconds
        large = asyncio.ensure_future(ask("b" * 4000, "b" * 4000, "b" * 4000))
        await collected(model, 2)
        with pytest.raises(OverloadedError):
            await ask("c" * 4000, "c" * 4000, "c" * 4000, "c" * 4000)
        await ask("d" * 400)
        await large

    run(scenario, batch_tokens=1500, answer_seconds=1)


def test_stopping_answers_what_waits():
    async def main():
        model = Watched()
        batcher = Batcher(model, Limits(batch=1), Metrics())
        batcher.start()
        model.free.clear()
        asked = [
            asyncio.ensure_future(batcher.ask(["p"], [word], lambda found: found.refined.tolist())) for word in "abc"
        ]
        await collected(model, 1)
        stopping = asyncio.ensure_future(batcher.stop())
        model.free.set()
        await stopping
        rewards = [reward for answer in await asyncio.gather(*asked) for reward in answer]
        assert rewards == pytest.approx(model.refined(list("abc")), abs=1e-5)
        assert not batcher.ready

    asyncio.run(main())


@pytest.mark.parametrize("name", ["batch", "responses", "body_bytes", "answer_seconds"])
def test_a_limit_that_lets_nothing_in_is_refused(name):
    with pytest.raises(InputError, match=f"limit {name.replace('_', ' ')} is 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_limit_that_is_no_number_to_count_with_is_refused(value):
    with pytest.raises(InputError, match="limit answer seconds is"):
        Limits(answer_seconds=value)
