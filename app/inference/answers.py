"""From a prompt to its answer, as a coroutine: looked up at once, or by queue and deadline."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import repeat

from app.errors import DeadlineError, DisconnectedError, OverloadedError
from app.inference.batcher import Batcher, PendingPrompt
from app.inference.decoding import Prompt
from app.inference.engine import Engine
from app.inference.model import Answer
from app.metrics import ServiceMetrics

MAX_EXPLANATIONS = 4
"""At once: an explanation costs the engine as much as a small batch, and batches go first."""

ResponseAndVersion = tuple[str, str]
"""What a query is answered, and the version of the model that answered."""
WaitForDisconnect = Callable[[], Coroutine[None, None, None]]


class Responder:
    """Answers prompts for coroutines of one event loop."""

    def __init__(
        self,
        engine: Engine,
        batcher: Batcher,
        metrics: ServiceMetrics,
        *,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._batcher = batcher
        self._timeout_s = timeout_s
        self._num_explanations = 0
        self._from_table = metrics.answers.labels("table")
        self._from_model = metrics.answers.labels("model")

    async def respond(
        self, prompts: Sequence[Prompt], wait_for_disconnect: WaitForDisconnect
    ) -> list[Answer]:
        """Answer prompts, in order, all of them or none.

        Raises:
            OverloadedError: There is no place in the queue.
            DeadlineError: They were not answered in time.
            DisconnectedError: The caller has gone.
            ModelUnavailableError: There is no model.
            EngineError: The model failed.
        """
        if any(prompt.is_special for prompt in prompts):
            return await self._ask(prompts, wait_for_disconnect)
        found = self.look_up([prompt.query for prompt in prompts])
        if found is None:
            return await self._ask(prompts, wait_for_disconnect)
        return [Answer(*pair) for pair in found]

    async def explain(self, query: str, wait_for_disconnect: WaitForDisconnect) -> Answer:
        """Answer a query greedily, with its distribution and explanation; raises as `respond`."""
        if self._num_explanations >= MAX_EXPLANATIONS:
            raise OverloadedError(
                f"{MAX_EXPLANATIONS} explanations are being made, and there is no place for "
                "another; try again in a moment"
            )
        self._num_explanations += 1
        try:
            (answer,) = await self._ask([Prompt(query, explain=True)], wait_for_disconnect)
        finally:
            self._num_explanations -= 1
        return answer

    def look_up(self, queries: Sequence[str]) -> list[ResponseAndVersion] | None:
        """The recorded answers; `None` without a table. Waits for no queue, engine or thread."""
        served = self._engine.served
        if served is None or served.table is None:
            return None
        self._from_table.inc(len(queries))
        return list(zip(served.table.answers(queries), repeat(served.version)))

    async def _ask(
        self, prompts: Sequence[Prompt], wait_for_disconnect: WaitForDisconnect
    ) -> list[Answer]:
        """Have the model answer."""
        _ = self._engine.model  # or why there is none
        is_queue_long = len(self._batcher) >= self._batcher.max_batch
        pending = self._batcher.submit(prompts)
        try:
            async with asyncio.timeout(self._timeout_s):
                if is_queue_long:
                    await _unless_disconnected(pending, wait_for_disconnect)
                answers = [await one.answer for one in pending]
        except BaseException as error:  # a cancellation of this coroutine, too
            self._batcher.discard(pending)
            for one in pending:
                one.answer.cancel()
            if isinstance(error, TimeoutError):
                raise DeadlineError(f"no answer within {self._timeout_s:g} s") from None
            raise
        self._from_model.inc(len(answers))
        return answers


async def _unless_disconnected(
    pending: Sequence[PendingPrompt], wait_for_disconnect: WaitForDisconnect
) -> None:
    """Wait until all are answered; raise `DisconnectedError` if the caller goes first."""
    gone = asyncio.ensure_future(wait_for_disconnect())
    try:
        for one in pending:
            waited_for: set[asyncio.Future[object]] = {gone, one.answer}  # type: ignore[arg-type]
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if not all(one.answer.done() for one in pending):
            raise DisconnectedError("the caller has gone")
    finally:
        gone.cancel()
