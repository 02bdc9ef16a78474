"""Requests of many clients share batches, and nothing else: neither each other's answers nor each other's errors."""

import asyncio
import threading

import pytest

from fixtures.serving_client import small_model
from qbrm.errors import InputError
from qbrm.serving.batching import Batcher, OverloadedError
from qbrm.serving.metrics import Metrics
from qbrm.serving.settings import Limits


class Watched:
    """A model that notes its batches, holds them while told to, and refuses the word poison."""

    def __init__(self):
        self.model, self.batches, self.free = small_model(), [], threading.Event()
        self.free.set()

    def score(self, prompts, responses):
        self.batches.append(list(responses))
        assert self.free.wait(10)
        if "poison" in responses:
            raise InputError("poison")
        return self.model.score(prompts, responses)

    def refined(self, responses):
        return self.model.score(["p"] * len(responses), responses).refined.tolist()


def run(scenario, **limits):
    """Run scenario(model, ask) in an event loop, with a batcher that is stopped afterwards."""

    async def main():
        model = Watched()
        batcher = Batcher(model, Limits(**limits), Metrics())
        batcher.start()

        async def ask(*responses):
            return await batcher.ask(["p"] * len(responses), responses, lambda found: found.refined.tolist())

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


def test_a_batch_is_never_larger_than_allowed_and_a_request_never_split():
    async def scenario(model, ask):
        model.free.clear()
        asked = [asyncio.ensure_future(ask(*[f"{number}.{row}" for row in range(3)])) for number in range(6)]
        asked.append(asyncio.ensure_future(ask(*[f"large {row}" for row in range(9)])))
        await collected(model, 1)
        model.free.set()
        await asyncio.gather(*asked)
        assert all(len(batch) <= 4 for batch in model.batches[:-1])
        assert [len(batch) for batch in model.batches] == [3] * 6 + [9]

    run(scenario, batch=4)


def test_an_error_reaches_the_request_that_caused_it_and_no_other():
    async def scenario(model, ask):
        model.free.clear()
        first = asyncio.ensure_future(ask("a"))
        await collected(model, 1)
        asked = [asyncio.ensure_future(ask(word)) for word in ("b", "poison", "c")]
        await asyncio.sleep(0.02)
        model.free.set()
        await first
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[1], InputError)
        assert found[0] + found[2] == pytest.approx(model.refined(["b", "c"]), abs=1e-5)

    run(scenario)


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


def test_more_than_can_be_answered_in_time_is_refused_at_once():
    async def scenario(model, ask):
        model.free.clear()
        waiting = asyncio.ensure_future(ask("a", "b"))
        await collected(model, 1)
        with pytest.raises(OverloadedError, match="2 responses are waiting"):
            await ask("c", "d")
        model.free.set()
        await waiting
        assert len(await ask("c", "d")) == 2

    run(scenario, waiting=3)


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
