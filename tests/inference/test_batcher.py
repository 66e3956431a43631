"""The batcher and the engine behind it, on a real event loop and the engine's real thread."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from app.errors import (
    DeadlineError,
    DisconnectedError,
    EngineError,
    ModelUnavailableError,
    OverloadedError,
)
from app.inference.answers import Responder
from app.inference.batcher import Batcher
from app.inference.decoding import Prompt
from app.inference.engine import Engine
from app.inference.model import Answer, ServedModel
from app.metrics import ServiceMetrics
from training.rule import RULE
from training.weights import Weights


async def never() -> None:
    await asyncio.Event().wait()


class House:
    """An engine with all around it, as the service has it."""

    def __init__(
        self,
        weights: Weights | None,
        *,
        max_batch: int = 64,
        max_queue: int = 1000,
        wait_s: float = 0,
        timeout_s: float = 10,
    ) -> None:
        self.metrics = ServiceMetrics()
        self.batcher = Batcher(max_batch, max_queue, wait_s)
        self.engine = Engine(self.batcher, self.metrics)
        self.responder = Responder(self.engine, self.batcher, self.metrics, timeout_s=timeout_s)
        self.engine.start()
        if weights is not None:
            self.engine.install(self.engine.prepare(weights))

    async def ask(self, *queries: str) -> list[Answer]:
        return await self.responder.respond([Prompt(query) for query in queries], never)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run(coroutine)
        finally:
            self.engine.stop()

    def batch_sizes(self) -> tuple[float, float]:
        """The number of forward passes and of prompts in them so far."""
        samples = {s.name: s.value for m in self.metrics.registry.collect() for s in m.samples}
        return samples["menny_batch_size_count"], samples["menny_batch_size_sum"]


class Hold:
    """Keeps the engine's thread busy until it is let go."""

    def __init__(self, house: House) -> None:
        self._go_on = threading.Event()
        started = threading.Event()
        house.batcher.call(lambda: (started.set(), self._go_on.wait(30)))
        assert started.wait(60)

    def let_go(self) -> None:
        self._go_on.set()


def test_what_waits_while_the_engine_is_busy_rides_in_one_batch(weights: Weights) -> None:
    house = House(weights)

    async def scenario() -> None:
        hold = Hold(house)
        asked = [asyncio.create_task(house.ask(query)) for query in RULE.alphabet[:3]]
        await asyncio.sleep(0)  # the tasks submit
        hold.let_go()
        await asyncio.gather(*asked)

    house.run(scenario())
    assert house.batch_sizes() == (1, 3)


def test_a_batch_has_at_most_max_batch_prompts(weights: Weights) -> None:
    house = House(weights, max_batch=4)

    async def scenario() -> None:
        hold = Hold(house)
        asked = asyncio.create_task(house.ask(*RULE.alphabet[:10]))
        await asyncio.sleep(0)
        hold.let_go()
        answered = zip(RULE.alphabet, await asked, strict=False)
        assert all(answer.response in RULE.answers[query] for query, answer in answered)

    house.run(scenario())
    assert house.batch_sizes() == (3, 10)


def test_an_idle_engine_answers_at_once_unless_told_to_wait(weights: Weights) -> None:
    house = House(weights, wait_s=0.5)

    async def scenario() -> tuple[float, float]:
        begin = time.monotonic()
        await asyncio.gather(house.ask(RULE.alphabet[0]), house.ask(RULE.alphabet[1]))
        one_by_one = time.monotonic() - begin
        begin = time.monotonic()
        await house.ask(*[RULE.example] * 64)  # full: there is nothing to wait for
        return one_by_one, time.monotonic() - begin

    waited, full = house.run(scenario())
    assert waited >= 0.5
    assert full < 0.5
    assert house.batch_sizes() == (2, 66)


def test_overload_is_refused_at_once_and_what_was_accepted_is_answered(weights: Weights) -> None:
    house = House(weights, max_queue=3)

    async def scenario() -> None:
        hold = Hold(house)
        accepted = asyncio.create_task(house.ask(*RULE.alphabet[:3]))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="3 queries are waiting"):
            await house.ask(RULE.example)
        hold.let_go()
        assert len(await accepted) == 3
        assert len(await house.ask(*RULE.alphabet[:3])) == 3

    house.run(scenario())


def test_many_queries_are_taken_all_or_none(weights: Weights) -> None:
    house = House(weights, max_queue=3)

    async def scenario() -> None:
        with pytest.raises(OverloadedError):
            await house.ask(*RULE.alphabet[:4])
        assert len(house.batcher) == 0

    house.run(scenario())


def test_a_caller_that_is_cancelled_frees_its_place(weights: Weights) -> None:
    house = House(weights, max_queue=1)

    async def scenario() -> None:
        hold = Hold(house)
        gone = asyncio.create_task(house.ask(RULE.alphabet[0]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        next_one = asyncio.create_task(house.ask(RULE.alphabet[1]))
        await asyncio.sleep(0)
        hold.let_go()
        assert len(await next_one) == 1

    house.run(scenario())


def test_a_caller_that_disconnects_from_a_long_queue_frees_its_place(weights: Weights) -> None:
    house = House(weights, max_batch=2, max_queue=3)

    async def scenario() -> None:
        hold = Hold(house)
        gone = asyncio.Event()
        first = asyncio.create_task(house.ask(*RULE.alphabet[:2]))
        await asyncio.sleep(0)
        leaver = asyncio.create_task(house.responder.respond([Prompt(RULE.example)], gone.wait))
        await asyncio.sleep(0)
        assert len(house.batcher) == 3
        gone.set()
        with pytest.raises(DisconnectedError):
            await leaver
        assert len(house.batcher) == 2
        hold.let_go()
        await first

    house.run(scenario())


def test_no_answer_in_time_is_an_error_and_frees_the_place(weights: Weights) -> None:
    house = House(weights, timeout_s=0.05)

    async def scenario() -> None:
        hold = Hold(house)
        with pytest.raises(DeadlineError, match=r"within 0.05 s"):
            await house.ask(RULE.alphabet[0])
        assert len(house.batcher) == 0
        hold.let_go()

    house.run(scenario())


def test_a_failed_forward_pass_fails_its_batch_and_the_next_one_works(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(weights)

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ServedModel, "logits", lambda *_: 1 / 0)
            with pytest.raises(EngineError):
                await house.ask(RULE.alphabet[0])
        assert (await house.ask(RULE.alphabet[0]))[0].response in RULE.answers[RULE.alphabet[0]]

    house.run(scenario())


def test_without_a_model_there_is_a_reason() -> None:
    house = House(None)
    house.engine.fault = "no such file"

    async def scenario() -> None:
        with pytest.raises(ModelUnavailableError, match="no such file"):
            await house.ask(RULE.alphabet[0])

    house.run(scenario())


def test_stopping_answers_what_was_accepted(weights: Weights) -> None:
    house = House(weights)

    async def scenario() -> None:
        hold = Hold(house)
        asked = asyncio.create_task(house.ask(*RULE.alphabet[:8]))
        await asyncio.sleep(0)
        house.batcher.close()
        hold.let_go()
        assert len(await asked) == 8

    house.run(scenario())


def test_a_model_that_cant_be_loaded_leaves_the_old_one_serving(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(weights)

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("app.inference.model.Settler", lambda *_: 1 / 0)
            with pytest.raises(EngineError, match="can't be built; the log says more"):
                await asyncio.to_thread(house.engine.prepare, weights)
        assert (await house.ask(RULE.alphabet[0]))[0].model_version == weights.version

    house.run(scenario())
