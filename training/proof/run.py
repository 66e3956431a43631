"""Carrying out a proof: on all cores, and on from where it was stopped.

The work is cut into chunks. A chunk's findings depend on nothing but the weights and the chunk, and
`merge` doesn't mind the order: so one process and several come to the same result, and a chunk that
is done is done, whoever did it.

It is NumPy's graph that is asked, unless the caller hands in another forward pass: no process here
needs MLX.
"""

import base64
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
from pathlib import Path
from typing import TextIO

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from training.architecture import Parameters
from training.dataset import generate_queries
from training.errors import ProofError, ProofStoppedError
from training.evaluation import Forward
from training.graph import FusedMenny
from training.proof.answers import CODE_TYPE, AnswerTable, encode_answers, is_whole
from training.proof.check import Findings, Proof, examine, merge
from training.proof.queries import BATCH_SIZE, CHUNK_SIZE, Plan, Workload
from training.settling import Settler
from training.weights import Weights

_FORMAT = 3  # of the lines that keep what was done, and of what computed it
_SPREAD_SIZES = [1] * 16 + [7] * 8 + [64, 1024]  # the batches that rounding is measured in


class ChunkFindings(BaseModel):
    """One chunk that is done: a line of the file that keeps them."""

    model_config = ConfigDict(frozen=True)

    chunk: int
    findings: Findings
    codes: str | None = None
    """What was answered, as base 64 of the answer table's codes; none for a forbidden answer."""
    elapsed: float = 0.0
    """Seconds that the proof had been running, breaks left out."""


ExamineChunks = Callable[[Parameters, Plan, Sequence[int]], Generator[ChunkFindings, None, None]]
"""Examines the chunks with these numbers, in any order; what it returns is closed at the end."""


@dataclass(frozen=True)
class ProofProgress:
    """Where a proof is."""

    done: int
    """Chunks, those of an earlier run included."""
    total: int
    violations: int
    """Queries answered wrongly so far."""


@dataclass(frozen=True)
class Outcome:
    """What comes of a proof."""

    proof: Proof
    table: AnswerTable | None = None
    """All answers, where every query that exists was asked and the proof holds."""


def prove(
    weights: Weights,
    plan: Plan,
    *,
    processes: int = 1,
    forward: Forward | None = None,
    elsewhere: ExamineChunks | None = None,
    cache: Path | None = None,
    on_progress: Callable[[ProofProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    at_first_violation: bool = False,
) -> Outcome:
    """Check weights on the planned queries.

    Args:
        weights: What to check.
        plan: On which queries.
        processes: How many do it; 1 is this very one, more are children of it.
        forward: What one process asks, in place of NumPy's graph: MLX's on a GPU, for instance.
        elsewhere: What examines the chunks, in place of processes here.
        cache: The folder that keeps what was done, so that the next call goes on from there, and
            of a finished proof is through at once; `forget_chunks` when the result is kept.
        on_progress: Called at the start and after each chunk.
        should_stop: Asked between chunks; when it says so, `ProofStoppedError` is raised.
        at_first_violation: Whether the first chunk with a violation is the last one.

    Raises:
        ProofStoppedError: `should_stop` said so; with a cache, no finished chunk is lost.
        ProofError: A worker process died, or the cache can't be used.
        WeightsError: The model's answers are no numbers.
    """
    begin = time.perf_counter()
    examiner = _Examiner(weights.parameters, plan, forward)
    total = examiner.work.num_chunks
    with closing(_Finished(cache, weights.sha256, plan)) as finished:
        before = max((item.elapsed for item in finished.chunks.values()), default=0.0)

        def elapsed() -> float:
            return before + time.perf_counter() - begin

        def violations() -> int:
            return sum(item.findings.violations for item in finished.chunks.values())

        def report() -> None:
            on_progress(ProofProgress(len(finished.chunks), total, violations()))

        report()
        pending = [chunk for chunk in range(total) if chunk not in finished.chunks]
        if elsewhere is not None and pending:
            examined = elsewhere(weights.parameters, plan, pending)
        elif min(processes, len(pending)) > 1 and forward is None:
            examined = _examine_in_children(weights.parameters, plan, pending, processes)
        else:
            examined = (examiner(chunk) for chunk in pending)
        with closing(examined):
            for _ in pending:
                if at_first_violation and violations():
                    break
                if should_stop():
                    raise ProofStoppedError("stopped")
                finished.add(next(examined).model_copy(update={"elapsed": elapsed()}))
                report()
        proof = Proof(
            **merge(item.findings for item in finished.chunks.values()).model_dump(),
            sha256=weights.sha256,
            rounding_spread=examiner.settler.spread,
            seconds=round(elapsed(), 1),
        )
        table = None
        if is_whole(plan) and proof.holds:
            table = _table(weights, [finished.chunks[chunk].codes for chunk in range(total)])
    return Outcome(proof, table)


def forget_chunks(cache: Path, sha256: str, plan: Plan) -> None:
    """Remove what a folder keeps of a proof, if it keeps anything."""
    shutil.rmtree(_chunks_folder(cache, sha256, plan), ignore_errors=True)


def _chunks_folder(cache: Path, sha256: str, plan: Plan) -> Path:
    """The folder's name binds the chunks in it to everything that they depend on.

    That is the weights, the plan and what rounding depends on: nothing of another proof is read.
    """
    key = repr((sha256, plan, BATCH_SIZE, CHUNK_SIZE, np.__version__, _FORMAT))
    return cache / f"{sha256[:12]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _table(weights: Weights, codes: Sequence[str | None]) -> AnswerTable:
    data = b"".join(base64.b64decode(part or "") for part in codes)
    return AnswerTable(np.frombuffer(data, dtype=CODE_TYPE), weights.sha256)


class _Finished:
    """The chunks that are done, kept as lines of a file if there is a folder for it."""

    def __init__(self, cache: Path | None, sha256: str, plan: Plan) -> None:
        self.chunks: dict[int, ChunkFindings] = {}
        self._cache = cache
        self._file: TextIO | None = None
        if cache is None:
            return
        folder = _chunks_folder(cache, sha256, plan)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "chunks.jsonl").open("a+", encoding="utf-8", errors="replace")
            self._read(self._file)
            self._write("")  # ends a line that was cut off
        except OSError as error:
            raise self._refused(error) from error

    def add(self, item: ChunkFindings) -> None:
        """Keep a finished chunk; raises `ProofError` if the disk won't take it."""
        self.chunks[item.chunk] = item
        try:
            self._write(item.model_dump_json())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def _refused(self, error: OSError) -> ProofError:
        return ProofError(f"can't keep the state in {self._cache}: {error.strerror}")

    def _read(self, file: TextIO) -> None:
        file.seek(0)
        for line in file:
            try:
                item = ChunkFindings.model_validate_json(line)
            except ValidationError:  # cut off by a crash: that chunk is done again
                continue
            self.chunks[item.chunk] = item


# --- the work -----------------------------------------------------------------------------------


class _Examiner:
    """Checks the chunk with a number, and settles its answers."""

    def __init__(self, parameters: Parameters, plan: Plan, forward: Forward | None = None) -> None:
        self.work: Workload = plan.workload()
        self._forward = forward or FusedMenny(parameters)
        probes = generate_queries(1024, np.random.default_rng(0))
        with np.errstate(all="ignore"):  # what overflows is refused
            self.settler = Settler(parameters, self._forward, probes, _SPREAD_SIZES)

    def __call__(self, chunk: int) -> ChunkFindings:
        part = self.work.chunk(chunk)
        findings, answers = examine(self._forward, part, self.settler.answers)
        codes = encode_answers(part.queries, answers) if part.with_anagrams else None
        text = None if codes is None else base64.b64encode(codes.tobytes()).decode()
        return ChunkFindings(chunk=chunk, findings=findings, codes=text)


def _examine_in_children(
    parameters: Parameters, plan: Plan, pending: Sequence[int], processes: int
) -> Generator[ChunkFindings, None, None]:
    pool = ProcessPoolExecutor(
        min(processes, len(pending)),
        multiprocessing.get_context("spawn"),  # a fork would copy the threads of MLX half-way
        _become_worker,
        (dict(parameters), plan),
    )
    try:
        yield from pool.map(examine_chunk, pending)
    except BrokenProcessPool:
        raise ProofError("a worker process died; run the same command again to go on") from None
    finally:
        pool.shutdown(cancel_futures=True)


_examiner: _Examiner  # of a worker process, from its first moment on


def _become_worker(parameters: Parameters, plan: Plan) -> None:
    """What a worker process does first: it lives as long as its parent, and no longer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    become_examiner(parameters, plan)


def become_examiner(parameters: Parameters, plan: Plan) -> None:
    """Get this process ready for `examine_chunk`."""
    global _examiner
    _examiner = _Examiner(parameters, plan)


def examine_chunk(chunk: int) -> ChunkFindings:
    """The findings in a chunk, by its number."""
    return _examiner(chunk)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - only children come here
    parent.join()
    os._exit(1)  # at once: there is nobody left to work for
