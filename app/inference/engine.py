"""The one thread that owns MLX: it loads the model, warms it up and runs every forward pass.

MLX's streams are thread-local, so an array made on one thread can't be evaluated on another, and
a thread that used MLX must clear its streams before it ends. Hence one thread, and futures.
"""

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from app.errors import ModelUnavailableError
from app.inference.decoding import decode_greedy
from training.backend import BLAS, mx
from training.errors import WeightsError
from training.model import build_model
from training.trainer import forward_of
from training.vocabulary import check_query, encode_batch
from training.weights import ModelCard, Weights, load_weights

logger = logging.getLogger(__name__)

WARM_UP_QUERY = "MeM"


@dataclass(frozen=True)
class Answer:
    """A response and the version of the model that gave it."""

    response: str
    model_version: str


@dataclass(frozen=True)
class ModelInfo:
    """What the service tells of the model that it serves."""

    version: str
    card: ModelCard | None
    device: str


@dataclass(frozen=True)
class _Work:
    query: str
    answer: Future[Answer]


@dataclass(frozen=True)
class _Swap:
    weights: Weights
    done: Future[None]


class Engine:
    """Serves one weights file. Use as a context manager, or `start` and `stop`.

    Weights that can't be loaded are no failure of `start`: `unavailable` has the reason, and
    `submit` raises it as `ModelUnavailableError`.
    """

    def __init__(self, weights: Path, device: str = "auto") -> None:
        self._weights = weights
        self._device = device
        self._queue: SimpleQueue[_Work | _Swap | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="menny-engine", daemon=True)
        self._ready = threading.Event()
        self.info: ModelInfo | None = None
        """The model that answers, once it has been loaded."""
        self.unavailable: str | None = None
        """Why there is no model and what to do, if there is none."""

    def start(self) -> None:
        """Start the thread; returns when the model has answered its first query, or has failed."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Answer what was submitted, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, query: str) -> Future[Answer]:
        """Have a query answered. Raises `VocabularyError` or `ModelUnavailableError`."""
        check_query(query)
        if self.unavailable is not None:
            raise ModelUnavailableError(self.unavailable)
        work = _Work(query, Future())
        self._queue.put(work)
        return work.answer

    def swap(self, weights: Weights) -> None:
        """Answer with other weights from now on; returns once they have answered a first query."""
        swap = _Swap(weights, Future())
        self._queue.put(swap)
        swap.done.result()

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
            self._load()
            self._ready.set()
            while (work := self._queue.get()) is not None:
                if isinstance(work, _Swap):
                    self._take(work)
                elif work.answer.set_running_or_notify_cancel():
                    self._answer(work)
        finally:
            self._ready.set()
            mx.clear_streams()

    def _load(self) -> None:
        try:
            if self._device != "auto":
                mx.set_default_device(mx.Device(mx.gpu if self._device == "gpu" else mx.cpu))
            weights = load_weights(self._weights)
        except WeightsError as error:
            self.unavailable = (
                f"there is no model to answer: {error}; make one with `menny train`, or name "
                "another with MENNY_WEIGHTS, then restart the service"
            )
            logger.error(self.unavailable)
            return
        if BLAS.reason:
            logger.warning(BLAS.reason)
        self._use(weights)
        logger.info("model %s from %s", weights.version, self._weights)

    def _use(self, weights: Weights) -> None:
        forward = forward_of(build_model(weights.parameters))
        forward(encode_batch([WARM_UP_QUERY]))
        device = str(mx.default_device().type).removeprefix("DeviceType.")
        self._forward = forward
        self.info = ModelInfo(weights.version, weights.card, device)
        self.unavailable = None

    def _take(self, swap: _Swap) -> None:
        try:
            self._use(swap.weights)
            swap.done.set_result(None)
        except Exception as error:
            swap.done.set_exception(error)

    def _answer(self, work: _Work) -> None:
        assert self.info is not None  # noqa: S101 - submit refuses work without a model
        try:
            letters = encode_batch([work.query])
            (response,) = decode_greedy(letters, self._forward(letters))
            work.answer.set_result(Answer(response, self.info.version))
        except Exception as error:
            work.answer.set_exception(error)
