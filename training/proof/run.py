"""Carrying out a proof: on all cores, on several machines, and on from where it was stopped.

The work is cut into chunks that are the same for everybody. A chunk's findings depend on nothing
but the weights and the chunk, and `merge` doesn't mind the order: so one process, two processes
and two machines come to the same result, and a chunk that is done is done, whoever did it.
"""

import hashlib
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from training.backend import BLAS, mlx_on_this_thread, mx
from training.errors import ProofError, ProofStoppedError
from training.model import build_model
from training.proof.check import (
    BATCH_SIZE,
    CHUNK_SIZE,
    Findings,
    Plan,
    Proof,
    check,
    merge,
    rounding_spread,
)
from training.trainer import forward_of
from training.weights import Parameters, Weights

_POLL_S = 0.2  # how often a wait for the workers looks whether it should stop


class ChunkFindings(BaseModel):
    """One chunk: a message from worker to parent, a line of the state file."""

    model_config = ConfigDict(frozen=True)

    chunk: int
    findings: Findings
    elapsed: float = 0.0
    """Seconds that the proof had been running, breaks left out."""


@dataclass(frozen=True)
class Progress:
    """Where a proof is."""

    done: int
    """Chunks of this rank's share, those of an earlier run included."""
    total: int
    violations: int
    """Queries answered wrongly so far."""


class Ranks:
    """The processes that `mlx.launch` started on one or several machines; without it, just us."""

    def __init__(self) -> None:
        self._group = mx.distributed.init()
        self.rank: int = self._group.rank()
        self.size: int = self._group.size()

    def gather(self, text: str) -> list[str]:
        """What every rank has passed, in order of rank."""
        data = text.encode()
        lengths = self._all_gather(np.array([len(data)], dtype=np.int32))
        row = np.frombuffer(data.ljust(lengths.max(), b"\0"), dtype=np.uint8)
        rows = self._all_gather(row).reshape(self.size, -1)
        return [
            rows[rank, :length].tobytes().decode() for rank, length in enumerate(lengths.tolist())
        ]

    def _all_gather(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.size == 1:
            return values
        return np.array(mx.distributed.all_gather(mx.array(values), group=self._group))


def prove(
    weights: Weights,
    plan: Plan,
    *,
    processes: int = 1,
    cache: Path | None = None,
    ranks: Ranks | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Proof:
    """Check weights on the planned queries.

    Args:
        weights: What to check.
        plan: On which queries.
        processes: How many do it; 1 is this very one, more are children of it.
        cache: The folder that keeps what was done, so that the next call goes on from there;
            what it has of this proof is removed when the proof is finished.
        ranks: Who else does it: each rank takes its share, and all return the same proof.
        on_progress: Called at the start and after each chunk.
        should_stop: Asked between chunks; when it says so, `ProofStoppedError` is raised.

    Uses MLX on the calling thread, which should end with `mx.clear_streams()`.

    Raises:
        ProofStoppedError: `should_stop` said so; with a cache, no finished chunk is lost.
        ProofError: A worker process died, or the cache can't be used.
    """
    ranks = ranks or Ranks()
    with closing(_State(cache, weights.sha256, plan, ranks.rank)) as state:
        return _prove(weights, plan, processes, state, ranks, on_progress, should_stop)


def _prove(
    weights: Weights,
    plan: Plan,
    processes: int,
    state: "_State",
    ranks: Ranks,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> Proof:
    begin = time.perf_counter()
    share = range(ranks.rank, plan.workload().num_chunks, ranks.size)
    pending = [chunk for chunk in share if chunk not in state.done]
    violations = sum(
        state.done[chunk].findings.violations for chunk in share if chunk in state.done
    )
    done = len(share) - len(pending)
    on_progress(Progress(done, len(share), violations))

    before = max((item.elapsed for item in state.done.values()), default=0.0)

    def elapsed() -> float:
        return before + time.perf_counter() - begin

    with closing(_check_chunks(weights.parameters, plan, pending, processes, should_stop)) as found:
        for chunk, findings in found:
            state.add(ChunkFindings(chunk=chunk, findings=findings, elapsed=elapsed()))
            done, violations = done + 1, violations + findings.violations
            on_progress(Progress(done, len(share), violations))

    spread = rounding_spread(forward_of(build_model(weights.parameters)))
    own = _Share(chunks=[state.done[chunk] for chunk in share], spread=spread)
    shares = [_Share.model_validate_json(text) for text in ranks.gather(own.model_dump_json())]
    state.remove()
    merged = merge(item.findings for part in shares for item in part.chunks)
    return Proof(
        **merged.model_dump(),
        sha256=weights.sha256,
        rounding_spread=max(part.spread for part in shares),
        seconds=round(elapsed(), 1),
    )


class _Share(BaseModel):
    """What one rank tells the others."""

    chunks: list[ChunkFindings]
    spread: float


class _State:
    """The chunks that are done, kept as lines of a file if there is a folder for it.

    The folder's name binds the file to the weights, the plan and everything that rounding
    depends on: nothing of another proof is ever read.
    """

    def __init__(self, cache: Path | None, sha256: str, plan: Plan, rank: int) -> None:
        self.done: dict[int, ChunkFindings] = {}
        self._folder: Path | None = None
        self._file: TextIO | None = None
        if cache is None:
            return
        arithmetic = (version("mlx"), BLAS.name, str(mx.default_device()))
        key = repr((sha256, plan, BATCH_SIZE, CHUNK_SIZE, arithmetic))
        digest = hashlib.sha256(key.encode()).hexdigest()
        self._folder = cache / f"{sha256[:12]}-{digest[:16]}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("rank*.jsonl")):
                self._read(path)
            self._file = (self._folder / f"rank{rank}.jsonl").open("a", encoding="utf-8")
            self._write("")  # ends a line that was cut off
        except OSError as error:
            raise ProofError(f"can't keep the state in {cache}: {error.strerror}") from error

    def add(self, item: ChunkFindings) -> None:
        """Keep a finished chunk."""
        self.done[item.chunk] = item
        try:
            self._write(item.model_dump_json())
        except OSError as error:
            raise ProofError(f"can't keep the state in {self._folder}: {error.strerror}") from error

    def remove(self) -> None:
        """Forget everything: the proof is finished."""
        self.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def _read(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                item = ChunkFindings.model_validate_json(line)
            except ValidationError:  # cut off by a crash: that chunk is done again
                continue
            self.done[item.chunk] = item


# --- the work -----------------------------------------------------------------------------------

_Found = Generator[tuple[int, Findings], None, None]


def _check_chunks(
    parameters: Parameters,
    plan: Plan,
    pending: Sequence[int],
    processes: int,
    should_stop: Callable[[], bool],
) -> _Found:
    processes = min(processes, len(pending))
    if processes > 1:
        yield from _check_in_children(parameters, plan, pending, processes, should_stop)
        return
    forward, work = forward_of(build_model(parameters)), plan.workload()
    for chunk in pending:
        _raise_if(should_stop)
        yield chunk, check(forward, work.chunk(chunk))


def _check_in_children(
    parameters: Parameters,
    plan: Plan,
    pending: Sequence[int],
    processes: int,
    should_stop: Callable[[], bool],
) -> _Found:
    """Hand out one chunk at a time to each of several child processes."""
    context = multiprocessing.get_context("spawn")  # a fork would copy MLX's threads half-way
    children = {}
    queue = iter(pending)
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            child = context.Process(
                target=_serve_chunks, args=(theirs, dict(parameters), plan), daemon=True
            )
            child.start()
            theirs.close()  # the child's end is its own now: when it dies, ours reads "end of file"
            children[ours] = child
            ours.send(next(queue))
        busy = set(children)
        while busy:
            _raise_if(should_stop)
            for ready in wait(list(busy), timeout=_POLL_S):
                assert isinstance(ready, Connection)  # noqa: S101 - tells mypy what we put in
                yield _receive(ready)
                if (chunk := next(queue, None)) is None:
                    busy.remove(ready)
                    ready.close()  # which ends the child
                else:
                    ready.send(chunk)
        for child in children.values():
            child.join()
    finally:
        for ours, child in children.items():
            ours.close()
            child.terminate()
            child.join()


def _receive(connection: Connection) -> tuple[int, Findings]:
    try:
        found: tuple[int, Findings] = connection.recv()
    except (EOFError, ConnectionResetError):
        raise ProofError("a worker process died; run the same command again to go on") from None
    return found


def _serve_chunks(parent: Connection, parameters: Parameters, plan: Plan) -> None:
    """A child's life: check the chunks that the parent names, until it closes the line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    with mlx_on_this_thread():
        forward, work = forward_of(build_model(parameters)), plan.workload()
        try:
            while True:
                chunk = parent.recv()
                parent.send((chunk, check(forward, work.chunk(chunk))))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _raise_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise ProofStoppedError("stopped")
