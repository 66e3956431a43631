"""The one thread that owns MLX: it loads models, warms them up and runs every forward pass.

MLX's streams are thread-local, so an array made on one thread can't be evaluated on another, and
a thread that used MLX must clear its streams before it ends. Hence one thread, fed by a batcher.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from app.errors import EngineError, ModelUnavailableError
from app.inference.batcher import Batcher, Work, deliver
from app.inference.decoding import Prompt
from app.inference.model import Answer, ModelInfo, ServedModel
from app.metrics import Metrics
from training.backend import BLAS, mx
from training.errors import MennyError
from training.weights import Weights, load_weights

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Engine:
    """Answers what comes out of the batcher with the model that was swapped in last."""

    def __init__(self, batcher: Batcher, metrics: Metrics, device: str = "auto") -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._device = device
        self._model: ServedModel | None = None
        self._thread = threading.Thread(target=self._run, name="menny-engine", daemon=True)
        self._loading = threading.Lock()
        self.info: ModelInfo | None = None
        """The model that answers, once there is one."""
        self.fault: str | None = None
        """Why the weights file that `load` was given last does not serve, and the remedy."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was submitted, then end the thread."""
        self._batcher.close()
        self._thread.join()

    def swap(self, weights: Weights) -> None:
        """Have these weights answer from now on; blocks until they do.

        The model before them answers until the new one has been checked and warmed up, and goes
        on answering if that fails, which raises.
        """
        self.call(lambda: self._swap(weights))

    def load(self, path: Path) -> None:
        """Have a weights file answer from now on; if it can't, `fault` says why. Blocks."""
        with self._loading:  # whoever comes last sees the file as it is then
            try:
                self.swap(load_weights(path))
            except MennyError as error:
                self.fault = (
                    f"{error}; make weights with `menny train`, or name others with MENNY_WEIGHTS, "
                    "then restart the service or send it SIGHUP"
                )
                logger.error("can't serve %s: %s", path, self.fault)
            else:
                self.fault = None

    def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt, alone; blocks. Raises `ModelUnavailableError`."""
        return self.call(lambda: self._the_model().answer([prompt])[0])

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between two batches; blocks for its result."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

        self._batcher.call(run)
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
            if self._device != "auto":
                mx.set_default_device(mx.Device(mx.gpu if self._device == "gpu" else mx.cpu))
            if BLAS.reason:
                logger.warning(BLAS.reason)
            while (taken := self._batcher.take()) is not None:
                if isinstance(taken, list):
                    self._answer(taken)
                else:
                    taken()
                del taken  # so that a swapped-out model is not kept by an idle loop
        finally:
            self._model = None
            mx.clear_streams()

    def _swap(self, weights: Weights) -> None:
        try:
            model = ServedModel(weights, self._batcher.max_batch)  # checks itself and warms up
        except MennyError:
            raise
        except Exception as error:  # MLX's own, for instance when memory runs out
            logger.exception("model %s can't be built", weights.version)
            raise EngineError(
                f"model {weights.version} can't be built; the log says more"
            ) from error
        self._model = model
        self.info = model.info
        self._metrics.show_model(model.info.version, model.info.device)
        logger.info("model %s serves, on %s", model.info.version, model.info.device)

    def _the_model(self) -> ServedModel:
        if self._model is None:
            raise ModelUnavailableError(f"there is no model to answer: {self.fault}")
        return self._model

    def _answer(self, works: list[Work]) -> None:
        begin = time.perf_counter()
        try:
            answers = self._the_model().answer([work.prompt for work in works])
        except ModelUnavailableError as error:
            deliver(works, error)
        except Exception:
            logger.exception("a batch of %d failed", len(works))
            deliver(works, EngineError("the model failed on this batch; the next one may work"))
        else:
            deliver(works, answers)
            self._metrics.forward_seconds.observe(time.perf_counter() - begin)
            self._metrics.batch_size.observe(len(works))


@contextmanager
def engine_of(weights: Weights) -> Iterator[Engine]:
    """An engine of one's own, without a service around it, that answers with these weights."""
    with Engine(Batcher(max_batch=1, max_queue=1), Metrics()) as engine:
        engine.swap(weights)
        yield engine
