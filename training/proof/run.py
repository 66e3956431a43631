"""Carrying out a proof: on all cores, and on from where it was stopped.

The work is cut into chunks. A chunk's findings depend on nothing but the weights and the chunk, and
`merge` doesn't mind the order: so one process and several come to the same result, and a chunk that
is done is done, whoever did it.
"""

import atexit
import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from training.backend import BLAS, mx
from training.errors import ProofError, ProofStoppedError
from training.model import build_model
from training.proof.check import Findings, Proof, check, merge, rounding_spread
from training.proof.queries import BATCH_SIZE, CHUNK_SIZE, Plan
from training.trainer import forward_of
from training.weights import Parameters, Weights


class ChunkFindings(BaseModel):
    """One chunk that is done: a line of the file that keeps them."""

    model_config = ConfigDict(frozen=True)

    chunk: int
    findings: Findings
    elapsed: float
    """Seconds that the proof had been running, breaks left out."""


@dataclass(frozen=True)
class ProofProgress:
    """Where a proof is."""

    done: int
    """Chunks, those of an earlier run included."""
    total: int
    violations: int
    """Queries answered wrongly so far."""


def prove(
    weights: Weights,
    plan: Plan,
    *,
    processes: int = 1,
    cache: Path | None = None,
    on_progress: Callable[[ProofProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Proof:
    """Check weights on the planned queries.

    Args:
        weights: What to check.
        plan: On which queries.
        processes: How many do it; 1 is this very one, more are children of it.
        cache: The folder that keeps what was done, so that the next call goes on from there;
            what it has of this proof is removed when the proof is finished.
        on_progress: Called at the start and after each chunk.
        should_stop: Asked between chunks; when it says so, `ProofStoppedError` is raised.

    Uses MLX on the calling thread, which should end with `mx.clear_streams()`.

    Raises:
        ProofStoppedError: `should_stop` said so; with a cache, no finished chunk is lost.
        ProofError: A worker process died, or the cache can't be used.
    """
    begin = time.perf_counter()
    total = plan.workload().num_chunks
    with closing(_Finished(cache, weights.sha256, plan)) as finished:
        before = max((item.elapsed for item in finished.chunks.values()), default=0.0)

        def elapsed() -> float:
            return before + time.perf_counter() - begin

        def report() -> None:
            violations = sum(item.findings.violations for item in finished.chunks.values())
            on_progress(ProofProgress(len(finished.chunks), total, violations))

        report()
        pending = [chunk for chunk in range(total) if chunk not in finished.chunks]
        check_chunks = _check_in_children if min(processes, len(pending)) > 1 else _check_here
        with closing(check_chunks(weights.parameters, plan, pending, processes)) as found:
            for chunk in pending:
                if should_stop():
                    raise ProofStoppedError("stopped")
                finished.add(ChunkFindings(chunk=chunk, findings=next(found), elapsed=elapsed()))
                report()
        proof = Proof(
            **merge(item.findings for item in finished.chunks.values()).model_dump(),
            sha256=weights.sha256,
            rounding_spread=rounding_spread(forward_of(build_model(weights.parameters))),
            seconds=round(elapsed(), 1),
        )
        finished.remove()
    return proof


class _Finished:
    """The chunks that are done, kept as lines of a file if there is a folder for it.

    The folder's name binds the file to the weights, the plan and everything that rounding
    depends on: nothing of another proof is ever read.
    """

    def __init__(self, cache: Path | None, sha256: str, plan: Plan) -> None:
        self.chunks: dict[int, ChunkFindings] = {}
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
            self._file = (self._folder / "chunks.jsonl").open(
                "a+", encoding="utf-8", errors="replace"
            )
            self._read(self._file)
            self._write("")  # ends a line that was cut off
        except OSError as error:
            raise ProofError(f"can't keep the state in {cache}: {error.strerror}") from error

    def add(self, item: ChunkFindings) -> None:
        """Keep a finished chunk; raises `ProofError` if the disk won't take it."""
        self.chunks[item.chunk] = item
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

    def _read(self, file: TextIO) -> None:
        file.seek(0)
        for line in file:
            try:
                item = ChunkFindings.model_validate_json(line)
            except ValidationError:  # cut off by a crash: that chunk is done again
                continue
            self.chunks[item.chunk] = item


# --- the work -----------------------------------------------------------------------------------


def _checker(parameters: Parameters, plan: Plan) -> Callable[[int], Findings]:
    """The function that checks the chunk with a number; uses MLX on the calling thread."""
    forward, work = forward_of(build_model(parameters)), plan.workload()
    return lambda chunk: check(forward, work.chunk(chunk))


def _check_here(
    parameters: Parameters, plan: Plan, pending: Sequence[int], _processes: int
) -> Generator[Findings, None, None]:
    yield from map(_checker(parameters, plan), pending)


def _check_in_children(
    parameters: Parameters, plan: Plan, pending: Sequence[int], processes: int
) -> Generator[Findings, None, None]:
    pool = ProcessPoolExecutor(
        min(processes, len(pending)),
        multiprocessing.get_context("spawn"),  # a fork would copy MLX's threads half-way
        _become_worker,
        (dict(parameters), plan),
    )
    try:
        yield from pool.map(_check_chunk, pending)
    except BrokenProcessPool:
        raise ProofError("a worker process died; run the same command again to go on") from None
    finally:
        pool.shutdown(cancel_futures=True)


_check_as_worker: Callable[[int], Findings]  # of a worker process, from its first moment on


def _become_worker(parameters: Parameters, plan: Plan) -> None:
    """What a worker process does first: it lives as long as its parent, and no longer."""
    global _check_as_worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    atexit.register(mx.clear_streams)  # or MLX aborts at exit
    _check_as_worker = _checker(parameters, plan)


def _check_chunk(chunk: int) -> Findings:
    return _check_as_worker(chunk)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - only children come here
    parent.join()
    os._exit(1)  # at once: there is nobody left to work for
