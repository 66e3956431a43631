"""The engine's thread: it never leaves anybody waiting, and knows when it is broken."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from app.errors import EngineError, ModelUnavailableError
from app.inference.batcher import Batcher
from app.inference.decoding import Prompt
from app.inference.engine import MAX_FAILURES, Engine, engine_of
from app.inference.model import Backend
from app.metrics import ServiceMetrics
from training.rule import RULE
from training.weights import Weights


class Broken:
    """A model whose forward pass fails until it is mended."""

    backend = Backend("cpu", "numpy")

    def __init__(self) -> None:
        self.is_mended = False

    def answer(self, prompts: list[Prompt]) -> list[str]:
        if not self.is_mended:
            raise RuntimeError("[metal] the GPU is gone")
        return ["I"] * len(prompts)


def test_a_call_after_the_end_is_refused_and_not_waited_for(weights: Weights) -> None:
    with engine_of(weights) as engine:
        pass
    for use in (lambda: engine.prepare(weights), lambda: engine.answer(Prompt(RULE.alphabet[0]))):
        with pytest.raises(ModelUnavailableError, match="has been stopped"):
            use()


def test_a_prompt_after_the_end_is_refused(weights: Weights) -> None:
    batcher = Batcher(max_batch=1, max_queue=1)
    with Engine(batcher, ServiceMetrics()):
        pass

    async def submit() -> None:
        batcher.submit([Prompt(RULE.alphabet[0])])

    with pytest.raises(ModelUnavailableError):
        asyncio.run(submit())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_whose_thread_ends_without_an_answer_is_not_waited_for_without_limit() -> None:
    batcher = Batcher(max_batch=1, max_queue=1)
    engine = Engine(batcher, ServiceMetrics())
    engine.start()

    def die() -> None:
        raise SystemExit  # as little can be caught as MLX's own abort

    batcher.call(die)
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(engine.call(lambda: 1))
        except ModelUnavailableError as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(60)
    assert isinstance(outcome[0], ModelUnavailableError | int)
    engine.stop()


def test_batches_that_fail_one_after_the_other_are_counted_until_one_works(
    weights: Weights,
) -> None:
    with engine_of(weights) as engine:
        broken = Broken()
        engine.install(replace(engine.served, model=broken))
        for number in range(MAX_FAILURES):
            assert engine.failing_s is None, number
            engine.probe()
        time.sleep(0.01)
        assert engine.failing_s > 0
        broken.is_mended = True
        engine.probe()
        assert engine.failing_s is None


def test_a_model_that_cannot_be_built_leaves_the_old_one_answering(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_of(weights) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("app.inference.engine.ServedModel", lambda *_: 1 / 0)
            with pytest.raises(EngineError, match="can't be built; the log says more"):
                engine.prepare(weights)
        assert engine.answer(Prompt(RULE.alphabet[0])).model_version == weights.version
