"""The child processes of retraining: what runs there can't hurt the one that serves.

Each runs code of `training` and is supervised (`training.child.supervision`): its standard input is
the pipe whose end tells it that this process is gone. What it writes is never believed.
"""

import os
import secrets
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from app.errors import ServiceError
from app.jobs.job import Job
from training.child.protocol import (
    AnyTask,
    Event,
    MeasuringTask,
    ProvingTask,
    TrainingTask,
    parse_event,
)
from training.config import Device, TrainingConfig
from training.errors import TrainingError

MAX_LINE = 64 * 1024
"""Bytes; a line of progress has less than 1,000."""

CHECK_S = 0.2

_CHILDS_OWN_QUERIES = 1_000  # its own measurement at the end is replaced by the gate's


class ChildError(ServiceError):
    """The child process did not do what it was started for; says why."""


class Child:
    """A supervised child process. Leaving the `with` block kills it, and waits for it.

    `name` is what people call it, as in "the training process". It imports nothing from the folder
    where the service was started: paths in its task are absolute.
    """

    def __init__(self, name: str, task: AnyTask) -> None:
        self.task = task
        self._name = name
        self._last_words = b""

    def __enter__(self) -> Self:
        try:
            # A process group of its own: Ctrl-C in the terminal is for this process alone. No
            # session of its own: Linux may weigh priorities within a session only (sched(7)).
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", "training.child", self.task.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                cwd="/",
            )
        except OSError as error:
            raise ChildError(f"{self._name} can't be started: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()  # it has nothing to save
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _pipe(pipe).close()

    def events(self, check: Callable[[], None]) -> Iterator[Event]:
        """What it reports, until it ends; raises `ChildError` if it ends badly or talks nonsense.

        `check` is called at least every `CHECK_S` seconds, and ends the wait by raising.
        """
        line = b""
        for chunk in self._read(check):
            *whole, line = (line + chunk).split(b"\n")
            yield from map(self._parse, whole)
            if len(line) > MAX_LINE:
                self._parse(line)
        if line:
            yield self._parse(line)
        if status := self._wait(check):
            raise ChildError(self._explain(status))

    def _parse(self, line: bytes) -> Event:
        try:
            return parse_event(line)
        except TrainingError as error:
            raise ChildError(f"{self._name} wrote {error}") from None

    def _read(self, check: Callable[[], None]) -> Iterator[bytes]:
        """Chunks of standard output until it ends; standard error is kept for `_explain`."""
        stdout, stderr = _pipe(self._process.stdout), _pipe(self._process.stderr)
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while selector.get_map():
                check()
                for key, _ in selector.select(CHECK_S):
                    chunk = os.read(key.fd, MAX_LINE)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is stderr:
                        self._last_words = (self._last_words + chunk)[-MAX_LINE:]
                    else:
                        yield chunk

    def _wait(self, check: Callable[[], None]) -> int:
        while True:
            check()
            try:
                return self._process.wait(CHECK_S)
            except subprocess.TimeoutExpired:  # it closed its output, and goes on
                continue

    def _explain(self, status: int) -> str:
        if status == -signal.SIGKILL:
            return f"{self._name} was killed (SIGKILL): perhaps memory ran out"
        if status < 0:
            return f"{self._name} crashed ({signal.Signals(-status).name})"
        words = self._last_words.decode("utf-8", "replace").strip()
        for line in reversed(words.splitlines()):
            if line.startswith("error: "):
                return line.removeprefix("error: ")[:1000]
        last = words.splitlines()[-1][:300] if words else "no word of why"
        return f"{self._name} ended with exit status {status}: {last}"


class Children:
    """What a job starts child processes with; `device` is where MLX computes in them."""

    def __init__(self, device: Device = "auto") -> None:
        self._device = device

    def train(self, job: Job, out: Path) -> Child:
        """Train as the job says and write the weights to `out`."""
        task = TrainingTask(
            recipe=job.recipe,
            config=job.config,
            out=out.absolute(),
            num_fresh_queries=_CHILDS_OWN_QUERIES,
            device=self._device,
        )
        return Child("the training process", task)

    def measure(self, weights: list[Path], num_queries: int, not_of: TrainingConfig) -> Child:
        """Measure files on the same fresh queries, none of which a run of `not_of` trains on."""
        task = MeasuringTask(
            weights=[path.absolute() for path in weights],
            num_queries=num_queries,
            seed=secrets.randbits(32),
            not_of=not_of,
            device=self._device,
        )
        return Child("the measuring process", task)

    def prove(self, weights: Path, cache: Path, out: Path) -> Child:
        """Ask a file every query there is; `cache` keeps what is done, `out` gets the table."""
        task = ProvingTask(weights=weights.absolute(), cache=cache.absolute(), out=out.absolute())
        return Child("the proving process", task)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - Popen was asked for a pipe
    return stream
