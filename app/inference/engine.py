"""The one thread that owns MLX: it builds models, warms them up and runs every forward pass.

MLX's streams are thread-local, so an array made on one thread can't be evaluated on another, and
a thread that used MLX must clear its streams before it ends. Hence one thread, fed by a batcher.
"""

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from app.errors import EngineError, ModelUnavailableError
from app.inference.batcher import Batcher, PendingPrompt, resolve
from app.inference.decoding import Prompt
from app.inference.model import Answer, Served, ServedModel
from app.inference.tables import Tables
from app.metrics import ServiceMetrics
from training.backend import BLAS, mx, use_device
from training.config import Device
from training.errors import MennyError
from training.rule import RULE
from training.weights import Weights

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FAILURES = 3
"""Batches that may fail one after the other before the engine counts as broken."""
STOP_S = 3.0
"""Seconds that the thread gets to end; it is a daemon, and holds up no exit beyond that."""
_PROBE = Prompt(RULE.example)


class Engine:
    """Answers what comes out of the batcher with the model that was installed last."""

    def __init__(
        self,
        batcher: Batcher,
        metrics: ServiceMetrics,
        device: Device = "auto",
        tables: Tables | None = None,
    ) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._device = device
        self._tables = tables
        self.served: Served | None = None
        """What answers; `None` as long as nothing does. Any thread may read it."""
        self._thread = threading.Thread(target=self._run, name="menny-engine", daemon=True)
        self._ready: Future[None] = Future()
        self._num_failures = 0
        self._failing_since = 0.0
        self.fault: str | None = None
        """Why the weights that should answer don't, and the remedy: set by who loads them."""

    @property
    def model(self) -> ServedModel:
        """The model that answers; raises `ModelUnavailableError` as long as there is none."""
        if self.served is None or self.served.model is None:
            why = self.fault or "it is being loaded; try again in a moment"
            raise ModelUnavailableError(f"there is no model to answer: {why}")
        return self.served.model

    @property
    def can_answer(self) -> bool:
        """Whether a query at temperature 0 gets an answer, from a table or from the model."""
        has_table = self.served is not None and self.served.table is not None
        return has_table or self.state == "ok"

    @property
    def state(self) -> Literal["starting", "ok", "failed"]:
        """How the model is, whether or not a table answers."""
        if self.served is None or self.served.model is None:
            return "failed" if self.fault else "starting"
        return "ok" if self.failing_s is None else "failed"

    @property
    def failing_s(self) -> float | None:
        """For how many seconds every batch has failed; `None` unless `MAX_FAILURES` have."""
        if self._num_failures < MAX_FAILURES:
            return None
        return time.monotonic() - self._failing_since

    def start(self) -> None:
        """Start the thread; raises what keeps it from taking work, such as `DeviceError`."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Answer what was submitted, then end the thread; later calls raise."""
        self._batcher.close()
        self._thread.join(STOP_S)

    def look_up(self, weights: Weights, file: Path | None) -> Served:
        """What weights, read from `file`, answer by their table alone; needs no MLX."""
        table, note = None, ""
        if self._tables is not None and file is not None:
            table, note = self._tables.find(weights, file)
        return Served(weights.version, weights.card, table, note)

    def prepare(self, weights: Weights, file: Path | None = None) -> Served:
        """Weights with their table and model, checked and warmed up; what answers goes on.

        Blocks. Raises `WeightsError`, `EngineError` or, after `stop`, `ModelUnavailableError`.
        """
        served = self.look_up(weights, file)
        return replace(served, model=self.call(lambda: self._build(weights)))

    def look_up_again(self, weights: Weights, file: Path) -> None:
        """Take up the table of the weights that answer, as it is now; raises as `install`."""
        found = self.look_up(weights, file)
        if self.served is not None and self.served.version == found.version:
            self.install(replace(found, model=self.served.model))

    def install(self, served: Served) -> None:
        """Have it answer, from the next batch and the next look-up on; blocks until it does.

        Raises `ModelUnavailableError` after `stop`.
        """
        self.call(lambda: self._install(served))

    def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt, alone; blocks. Raises `ModelUnavailableError`."""
        return self.call(lambda: self.model.answer([prompt])[0])

    def probe(self) -> None:
        """Find out whether a failing engine has recovered, though nobody asks it; blocks."""
        self.call(lambda: self._attempt([_PROBE]))

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between two batches; blocks for its result.

        Raises what it raises, and `ModelUnavailableError` once the thread has ended.
        """
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

        self._batcher.call(run)
        while not concurrent.futures.wait([result], timeout=1).done:
            if not self._thread.is_alive():
                raise ModelUnavailableError("the engine has ended, and answers no more")
        return result.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- on the engine's own thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin()
            while (taken := self._batcher.take()) is not None:
                if isinstance(taken, list):
                    self._answer(taken)
                else:
                    taken()
                del taken  # so that a model that was replaced is not kept by an idle loop
        finally:
            self._batcher.close()
            self.served = None
            mx.clear_streams()

    def _begin(self) -> None:
        try:
            use_device(self._device)
            if BLAS.reason:
                logger.warning(BLAS.reason)
        except BaseException as error:
            self._batcher.close()
            self._ready.set_exception(error)
        else:
            self._ready.set_result(None)

    def _build(self, weights: Weights) -> ServedModel:
        try:
            # It checks itself and warms up.
            return ServedModel(weights, self._batcher.max_batch, self._device)
        except MennyError:
            raise
        except Exception as error:  # MLX's own, for instance when memory runs out
            logger.exception("model %s can't be built", weights.version)
            raise EngineError(
                f"model {weights.version} can't be built; the log says more"
            ) from error

    def _install(self, served: Served) -> None:
        if self.served is None or self.served.model is not served.model:
            self._num_failures = 0
        self.served = served
        sources = {"the answer table": served.table, "the model": served.model}
        source = " and ".join(name for name, part in sources.items() if part is not None)
        device = served.model.backend.device if served.model else "none"
        self._metrics.show_model(served.version, device)
        logger.info("version %s serves, from %s", served.version, source)

    def _answer(self, pending: list[PendingPrompt]) -> None:
        begin = time.perf_counter()
        answers = self._attempt([one.prompt for one in pending])
        resolve(pending, answers)
        if isinstance(answers, list):
            self._metrics.forward_seconds.observe(time.perf_counter() - begin)
            self._metrics.batch_size.observe(len(pending))

    def _attempt(self, prompts: list[Prompt]) -> list[Answer] | MennyError:
        """Answer a batch, and count failures in a row."""
        try:
            answers = self.model.answer(prompts)
        except ModelUnavailableError as error:
            return error
        except Exception:
            logger.exception("a batch of %d failed", len(prompts))
            if self._num_failures == 0:
                self._failing_since = time.monotonic()
            self._num_failures += 1
            return EngineError("the model failed on this batch; the next one may work")
        self._num_failures = 0
        return answers


@contextmanager
def engine_of(weights: Weights) -> Iterator[Engine]:
    """An engine of one's own, without a service around it, that answers with these weights."""
    with Engine(Batcher(max_batch=1, max_queue=1), ServiceMetrics()) as engine:
        engine.install(engine.prepare(weights))
        yield engine
