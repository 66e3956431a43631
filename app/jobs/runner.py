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
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from app.errors import ServiceError
from training.child.events import EpochEvent, PhaseEvent, SavedEvent, parse_event
from training.config import Recipe, TrainingConfig

MAX_LINE = 64 * 1024
"""Bytes; a line of progress has less than 1,000."""

_CHILDS_OWN_QUERIES = 1_000  # its own measurement at the end is replaced by the gate's


class ChildError(ServiceError):
    """The child process did not do what it was started for; says why."""


class Child:
    """A supervised child process. Leaving the `with` block kills it, and waits for it.

    `name` is what people call it, as in "the training process".
    """

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", *arguments, "--supervised"]
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

    def lines(self) -> Iterator[bytes]:
        """What it writes, line by line, until it ends; raises `ChildError` if it ends badly."""
        stdout = _pipe(self._process.stdout)
        while line := stdout.readline(MAX_LINE):
            yield line
        status = self._process.wait()
        self._listener.join()
        if status:
            raise ChildError(self._explain(status))

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


def training_child(recipe: Recipe, config: TrainingConfig, out: Path) -> Child:
    """Train `config` and write the weights to `out`."""
    arguments = ["training", "--progress", "json", "--recipe", recipe, "--out", str(out)]
    arguments += ["--num-fresh-queries", str(_CHILDS_OWN_QUERIES)]
    for name, value in config.model_dump(exclude_none=True).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        else:
            arguments += [f"--{option}", str(value)]
    return Child("the training process", arguments)


def training_events(child: Child) -> Iterator[PhaseEvent | EpochEvent | SavedEvent]:
    """What the training process reports; raises `ChildError` or `TrainingError`."""
    return map(parse_event, child.lines())


def measuring_child(
    weights: list[Path], num_queries: int, seed: int, not_of: TrainingConfig
) -> Child:
    """Measure weights files on the same queries, none of which a run of `not_of` trains on."""
    return Child(
        "the measuring process",
        [
            "training.child.measure",
            *map(str, weights),
            f"--num-queries={num_queries}",
            f"--seed={seed}",
            f"--not-of={not_of.model_dump_json()}",
        ],
    )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - Popen was asked for a pipe
    return stream


def _keep_last(stream: IO[bytes], lines: deque[bytes]) -> None:
    while line := stream.readline(MAX_LINE):
        lines.append(line)
