"""The child processes of retraining: what runs there can't hurt the one that serves.

Each runs code of `training` and is supervised (`training.child.supervision`): its standard input is
the pipe whose end tells it that this process is gone. What it writes is never believed.
"""

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

from app.errors import ServiceError
from training.child.protocol import Event, MeasuringTask, TrainingTask, parse_event
from training.errors import TrainingError

MAX_LINE = 64 * 1024
"""Bytes; a line of progress has less than 1,000."""


class ChildError(ServiceError):
    """The child process did not do what it was started for; says why."""


class Child:
    """A supervised child process. Leaving the `with` block kills it, and waits for it.

    `name` is what people call it, as in "the training process".
    """

    def __init__(self, name: str, task: TrainingTask | MeasuringTask) -> None:
        self.name = name
        # -P: what lies in the folder where the service was started is never imported.
        command = [sys.executable, "-P", "-m", "training.child"]
        self._arguments = [*command, task.model_dump_json()]
        self._last_words: deque[bytes] = deque(maxlen=20)

    def __enter__(self) -> Self:
        try:
            # A process group of its own: Ctrl-C in the terminal is for this process alone. No
            # session of its own: Linux may weigh priorities within a session only (sched(7)).
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            raise ChildError(f"{self.name} can't be started: {error.strerror}") from error
        self._listener = threading.Thread(
            target=_keep_last, args=(_pipe(self._process.stderr), self._last_words), daemon=True
        )
        self._listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _pipe(pipe).close()

    def kill(self) -> None:
        """End it at once, from any thread; it has nothing to save."""
        self._process.kill()

    def _lines(self) -> Iterator[bytes]:
        """What it writes, line by line, until it ends; raises `ChildError` if it ends badly."""
        stdout = _pipe(self._process.stdout)
        while line := stdout.readline(MAX_LINE):
            yield line
        status = self._process.wait()
        self._listener.join()
        if status:
            raise ChildError(self._explain(status))

    def events(self) -> Iterator[Event]:
        """What it reports, until it ends; raises `ChildError` if that makes no sense."""
        for line in self._lines():
            try:
                yield parse_event(line)
            except TrainingError as error:
                raise ChildError(f"{self.name} wrote {error}") from None

    def _explain(self, status: int) -> str:
        if status == -signal.SIGKILL:
            return f"{self.name} was killed (SIGKILL): perhaps memory ran out"
        if status < 0:
            return f"{self.name} crashed ({signal.Signals(-status).name})"
        words = b"".join(self._last_words).decode("utf-8", "replace").strip()
        for line in reversed(words.splitlines()):
            if line.startswith("error: "):
                return line.removeprefix("error: ")[:1000]
        last = words.splitlines()[-1][:300] if words else "no word of why"
        return f"{self.name} ended with exit status {status}: {last}"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - Popen was asked for a pipe
    return stream


def _keep_last(stream: IO[bytes], lines: deque[bytes]) -> None:
    while line := stream.readline(MAX_LINE):
        lines.append(line)
