"""What is waiting for the engine: prompts, which it takes as a batch, and calls.

Clients' coroutines put things in, the engine's thread takes them out. Nothing waits on purpose:
while the engine is busy prompts pile up, and when it is free it takes what is there.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from app.errors import ModelUnavailableError, OverloadedError
from app.inference.decoding import Prompt
from app.inference.model import Answer

Call = Callable[[], None]


@dataclass(eq=False, slots=True)
class PendingPrompt:
    """A prompt that waits for its answer on an event loop."""

    prompt: Prompt
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A bounded queue of prompts, and an unbounded one of calls, which come first."""

    def __init__(self, max_batch: int, max_queue: int, wait_s: float = 0) -> None:
        self.max_batch = max_batch
        self._max_queue = max_queue
        self._wait_s = wait_s
        self._prompts: deque[PendingPrompt] = deque()
        self._calls: deque[Call] = deque()
        self._is_closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Prompts that wait."""
        return len(self._prompts)

    def submit(self, prompts: Sequence[Prompt]) -> list[PendingPrompt]:
        """Queue prompts from a coroutine, all of them or none.

        Raises `OverloadedError` when they don't all fit, `ModelUnavailableError` after `close`.
        """
        loop = asyncio.get_running_loop()
        pending = [PendingPrompt(prompt, loop.create_future()) for prompt in prompts]
        with self._changed:
            self._raise_if_closed()
            if len(self._prompts) + len(pending) > self._max_queue:
                raise OverloadedError(
                    f"{len(self._prompts)} queries are waiting and there is no place for "
                    f"{len(pending)} more; try again in a moment"
                )
            self._prompts.extend(pending)
            self._changed.notify()
        return pending

    def discard(self, pending: Sequence[PendingPrompt]) -> None:
        """Free the places of prompts that nobody waits for any more."""
        gone = set(map(id, pending))
        with self._changed:
            self._prompts = deque(one for one in self._prompts if id(one) not in gone)

    def call(self, function: Call) -> None:
        """Have the engine's thread call a function between two batches.

        Raises `ModelUnavailableError` after `close`: nobody would call it any more.
        """
        with self._changed:
            self._raise_if_closed()
            self._calls.append(function)
            self._changed.notify()

    def close(self) -> None:
        """Let `take` return `None` once everything queued has been taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self) -> list[PendingPrompt] | Call | None:
        """On the engine's thread: wait for a call or a batch; `None` when there is no more."""
        with self._changed:
            while not (self._calls or self._prompts or self._is_closed):
                self._changed.wait()
            if self._calls:
                return self._calls.popleft()
            self._wait_for_more()
            count = min(len(self._prompts), self.max_batch)
            return [self._prompts.popleft() for _ in range(count)] or None

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise ModelUnavailableError("the engine has been stopped, and answers no more")

    def _wait_for_more(self) -> None:
        """Give a batch that isn't full the configured time to fill, from its first prompt on."""
        while (
            self._wait_s
            and 0 < len(self._prompts) < self.max_batch
            and not self._is_closed
            and (left := self._prompts[0].since + self._wait_s - time.monotonic()) > 0
        ):
            self._changed.wait(left)


def resolve(pending: Sequence[PendingPrompt], outcome: Sequence[Answer] | Exception) -> None:
    """Hand a batch its answers, or the error that it ended with, on their event loop."""
    if not pending:
        return
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        pending[0].answer.get_loop().call_soon_threadsafe(_settle, pending, outcome)


def _settle(pending: Sequence[PendingPrompt], outcome: Sequence[Answer] | Exception) -> None:
    for number, one in enumerate(pending):
        if one.answer.done():
            continue  # its caller has gone
        if isinstance(outcome, Exception):
            one.answer.set_exception(outcome)
        else:
            one.answer.set_result(outcome[number])
