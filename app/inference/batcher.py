"""What is waiting for the engine: prompts, which it takes as a batch, and calls.

Clients' coroutines put things in, the engine's thread takes them out. Nothing waits on purpose:
while the engine is busy prompts pile up, and when it is free it takes what is there.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.errors import OverloadedError
from app.inference.decoding import Prompt
from app.inference.model import Answer

Call = Callable[[], None]


@dataclass(eq=False, slots=True)
class Work:
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
        self._works: deque[Work] = deque()
        self._calls: deque[Call] = deque()
        self._is_closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Prompts that wait."""
        return len(self._works)

    def submit(self, prompts: Sequence[Prompt]) -> list[Work]:
        """Queue prompts from a coroutine, all of them or none.

        Raises `OverloadedError` when they don't all fit.
        """
        loop = asyncio.get_running_loop()
        works = [Work(prompt, loop.create_future()) for prompt in prompts]
        with self._changed:
            if len(self._works) + len(works) > self._max_queue:
                raise OverloadedError(
                    f"{len(self._works)} queries are waiting and there is no place for "
                    f"{len(works)} more; try again in a moment"
                )
            self._works.extend(works)
            self._changed.notify()
        return works

    def discard(self, works: Sequence[Work]) -> None:
        """Free the places of works that nobody waits for any more."""
        gone = set(map(id, works))
        with self._changed:
            self._works = deque(work for work in self._works if id(work) not in gone)

    def call(self, function: Call) -> None:
        """Have the engine's thread call a function between two batches."""
        with self._changed:
            self._calls.append(function)
            self._changed.notify()

    def close(self) -> None:
        """Let `take` return `None` once everything queued has been taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self) -> list[Work] | Call | None:
        """On the engine's thread: wait for a call or a batch; `None` when there is no more."""
        with self._changed:
            while not (self._calls or self._works or self._is_closed):
                self._changed.wait()
            if self._calls:
                return self._calls.popleft()
            self._wait_for_more()
            count = min(len(self._works), self.max_batch)
            return [self._works.popleft() for _ in range(count)] or None

    def _wait_for_more(self) -> None:
        """Give a batch that isn't full the configured time to fill, from its first prompt on."""
        while (
            self._wait_s
            and 0 < len(self._works) < self.max_batch
            and not self._is_closed
            and (left := self._works[0].since + self._wait_s - time.monotonic()) > 0
        ):
            self._changed.wait(left)


def deliver(works: Sequence[Work], outcome: Sequence[Answer] | Exception) -> None:
    """Hand a batch its answers, or the error that it ended with, on their event loop."""
    if works:
        works[0].answer.get_loop().call_soon_threadsafe(_settle, works, outcome)


def _settle(works: Sequence[Work], outcome: Sequence[Answer] | Exception) -> None:
    for number, work in enumerate(works):
        if work.answer.done():
            continue  # its caller has gone
        if isinstance(outcome, Exception):
            work.answer.set_exception(outcome)
        else:
            work.answer.set_result(outcome[number])
