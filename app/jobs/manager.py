"""Runs the jobs that are queued, one at a time: each from the queue, over the gate, to its end.

While there is none, it has versions proven.

Jobs are rows: whoever starts or cancels one, in this process or another, writes it down, and the
thread here looks for that some times a second. It never touches MLX: child processes do, and the
engine.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.errors import ConflictError, StateUnavailableError, UnreadableRowError
from app.jobs.job import GateReport, Job, JobState, Promote
from app.jobs.metrics import JobMetrics
from app.jobs.promotion import GateRules, judge, measurements
from app.jobs.proving import Prover
from app.jobs.runner import ChildError, Children
from app.jobs.store import Store
from app.jobs.versions import Versions
from training.child.protocol import PhaseEvent, SavedEvent
from training.epoch import Epoch
from training.errors import MennyError, ProofStoppedError, WeightsError
from training.weights import Weights, load_weights

logger = logging.getLogger(__name__)

POLL_S = 0.2
"""How often the store is looked at for jobs to start and to end."""
STOP_S = 3.0
"""Seconds that a job gets to end when the service stops; its thread holds up no exit."""
_RETRY_S = 0.5

CANCELLED = "it was cancelled"
INTERRUPTED = "the service was stopped"


class JobManager:
    """Takes queued jobs from the store and runs them, on a thread of its own."""

    def __init__(
        self,
        store: Store,
        versions: Versions,
        prover: Prover,
        children: Children,
        rules: GateRules,
        staging: Path,
        timeout_s: float,
        metrics: JobMetrics,
        take_turn: Callable[[], bool],
    ) -> None:
        """`take_turn`: try to become the one that runs jobs; once it is, always true."""
        self._store = store
        self._versions = versions
        self._prover = prover
        self._children = children
        self._rules = rules
        self._staging = staging
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._take_turn = take_turn
        self._has_turn = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="menny-jobs", daemon=True)

    def start(self) -> None:
        """Start the thread; raises `StateUnavailableError`, if the system has none to give, too."""
        self._has_turn = self._take_turn()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise StateUnavailableError(f"jobs can't be run: {error}") from error

    def stop(self) -> None:
        """Interrupt the job that is running and wait for its end, but not without limit."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                logger.error("a job does not end; the next start will call it interrupted")

    # --- on the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        complaint = ""
        while not self._stopping.wait(POLL_S):
            try:
                self._has_turn = self._has_turn or self._take_turn()
                if not self._has_turn:
                    continue
                job_id = self._store.find_queued_job()
                if job_id is not None:
                    self._conduct(job_id)
                else:
                    self._prover.work(self._make_way)
            except (ConflictError, ProofStoppedError):  # it was cancelled just now, or makes way
                pass
            except StateUnavailableError as error:
                if str(error) != complaint:  # once, and not each time until it is put right
                    complaint = str(error)
                    logger.error("no job can be taken: %s", error)
        try:
            if self._has_turn:
                self._store.interrupt_jobs(INTERRUPTED)
        except StateUnavailableError as error:
            logger.error("jobs can't be called interrupted: %s", error)

    def _make_way(self) -> None:
        """Raises `ProofStoppedError` if a job is to start, or the service stops."""
        if self._stopping.is_set() or self._store.find_queued_job() is not None:
            raise ProofStoppedError("it makes way")

    def _conduct(self, job_id: int) -> None:
        """Run a queued job to its end; raises `ConflictError` if it is not queued any more."""
        try:
            job = self._store.start_job(job_id)
        except UnreadableRowError as error:
            self._end(job_id, JobState.FAILED, str(error))
            return
        folder = self._staging / str(job.id)
        self._end(job_id, *self._run(job, folder))
        shutil.rmtree(folder, ignore_errors=True)  # the state directory may have been away before

    def _run(self, job: Job, folder: Path) -> tuple[JobState, str]:
        """The whole job, of which nothing is left in its folder; returns how it ended, and why."""
        try:
            return JobState.SUCCEEDED, self._train_and_decide(job, folder)
        except _JobEndedError as end:
            return end.state, str(end)
        except MennyError as error:
            return JobState.FAILED, str(error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return JobState.FAILED, f"{where}{error.strerror}"
        except Exception:
            logger.exception("job %d met a fault of the service", job.id)
            return JobState.FAILED, "a fault of the service; its log has more"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _train_and_decide(self, job: Job, folder: Path) -> str:
        """The whole job; returns how it went."""
        self._metrics.begin()
        folder.mkdir(parents=True)
        watch = _Watch(self._store, job.id, self._stopping, self._timeout_s)
        candidate = folder / "candidate.npz"
        weights = self._train(job, candidate, watch)
        self._store.set_phase(job.id, "checking")
        report = self._check(job, weights, candidate, watch)
        watch.check()
        if not self._store.commit_job(job.id):
            raise _JobEndedError(JobState.CANCELLED, CANCELLED)
        return self._decide(job, weights, report)

    def _train(self, job: Job, out: Path, watch: "_Watch") -> Weights:
        """Have the training process train, and check what it wrote."""
        saved: SavedEvent | None = None
        with self._children.train(job, out) as child:
            for event in child.events(watch.check):
                match event:
                    case PhaseEvent(phase=phase):
                        self._store.set_phase(job.id, phase)
                    case Epoch() as epoch:
                        self._store.add_epoch(job.id, epoch)
                        self._metrics.progress.set(epoch.epoch / epoch.num_epochs)
                        self._metrics.loss.set(epoch.loss)
                    case SavedEvent() as saved:
                        pass
        weights = load_weights(out)
        if saved is None or saved.sha256 != weights.sha256 or weights.card is None:
            raise ChildError("the training process wrote other weights than it said")
        if weights.card.config != job.config:
            raise ChildError("the training process trained something else than it was told to")
        return weights

    def _check(self, job: Job, weights: Weights, path: Path, watch: "_Watch") -> GateReport:
        """Measure the new version beside the one that answers, of which it takes a copy."""
        files = [(path, weights.sha256)]
        copy = path.with_name("active.npz")
        active, is_unreadable = None, False
        try:
            active = self._versions.copy_active(copy)
        except WeightsError as error:
            logger.error("job %d has nothing to be measured against: %s", job.id, error)
            is_unreadable = True
        if active is not None:
            files.append((copy, active.sha256))
        with self._children.measure(
            [file for file, _ in files], self._rules.num_queries, job.config
        ) as child:
            candidate, *rest = measurements(
                child.events(watch.check), [sha256 for _, sha256 in files]
            )
        report = judge(
            candidate,
            rest[0] if rest else None,
            None if active is None else active.version,
            self._rules,
            is_unreadable=is_unreadable,
        )
        self._store.set_gate(job.id, report)
        return report

    def _decide(self, job: Job, weights: Weights, gate: GateReport) -> str:
        """Keep the version or activate it: the phase `promoting`, which nobody cancels."""
        assert weights.card is not None  # noqa: S101 - _train has seen to it
        card = weights.card.model_copy(
            update={"metrics": gate.candidate, "parent": gate.active_version}
        )
        is_kept = f"version {weights.version} is kept, and not activated: "
        if job.promote is Promote.NEVER:
            self._versions.keep(weights, card, job.id)
            return is_kept + "promote is never"
        if job.promote is Promote.IF_BETTER and not gate.passed:
            self._versions.keep(weights, card, job.id)
            return is_kept + gate.verdict
        measured_against = gate.active_version if job.promote is Promote.IF_BETTER else None
        if self._versions.promote(weights, card, job.id, measured_against=measured_against):
            why = ":" if gate.passed else " because promote is always, though"
            return f"version {weights.version} is active{why} {gate.verdict}"
        return is_kept + (
            f"version {measured_against}, which it was measured against, is no longer the active "
            "one"
        )

    def _end(self, job_id: int, state: JobState, reason: str) -> None:
        """Write the end down; while the database won't take it, try again until the service stops.

        If even then it won't, the next start finds the job unfinished, and calls it interrupted.
        """
        reason = reason.replace(f"{self._staging.parent}/", "")  # nothing for a client
        complaint = ""
        while True:
            try:
                self._store.end_job(job_id, state, reason)
                break
            except StateUnavailableError as error:
                if str(error) != complaint:  # once, and not each time until it is put right
                    complaint = str(error)
                    logger.error("job %d: %s, but %s", job_id, state, complaint)
                if self._stopping.wait(_RETRY_S):
                    break
        self._metrics.jobs.labels(state=state.value).inc()
        logger.info("job %d: %s: %s", job_id, state, reason)


class _JobEndedError(Exception):
    """The job is to end now, in this state, for the reason that is the message."""

    def __init__(self, state: JobState, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class _Watch:
    """Looks whether a job is to end: it was cancelled, takes too long, or the service stops."""

    def __init__(
        self, store: Store, job_id: int, stopping: threading.Event, timeout_s: float
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._stopping = stopping
        self._timeout_s = timeout_s
        self._began = self._looked = time.monotonic()

    def check(self) -> None:
        """Raises `_JobEndedError`; asks the store every `POLL_S` seconds at most."""
        now = time.monotonic()
        if self._stopping.is_set():
            raise _JobEndedError(JobState.INTERRUPTED, INTERRUPTED)
        if now - self._began > self._timeout_s:
            raise _JobEndedError(JobState.FAILED, f"it took longer than {self._timeout_s:,.0f} s")
        if now - self._looked > POLL_S:
            self._looked = now
            if self._store.is_cancelling(self._job_id):
                raise _JobEndedError(JobState.CANCELLED, CANCELLED)
