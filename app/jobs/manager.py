"""One training job at a time: from the request, over the child process and the gate, to its end.

A job runs on a thread of its own, which waits for child processes and writes down what becomes of
it. It never touches MLX.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import ConflictError, JobRunningError, StateUnavailableError
from app.jobs.job import GateReport, Job, JobPhase, JobRequest, JobState, Promote
from app.jobs.metrics import TrainingMetrics
from app.jobs.promotion import GateRules, Measurable, judge, measure
from app.jobs.runner import Child, ChildError
from app.jobs.store import Store
from app.jobs.versions import Versions
from training.child.protocol import PhaseEvent, SavedEvent, TrainingTask
from training.epoch import Epoch
from training.errors import MennyError, WeightsError
from training.weights import Weights, load_weights

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_CHILDS_OWN_QUERIES = 1_000  # its own measurement at the end is replaced by the gate's


class JobManager:
    """Starts and cancels jobs. `on_change` is called, on any thread, when a job has news."""

    def __init__(
        self,
        store: Store,
        versions: Versions,
        staging: Path,
        rules: GateRules,
        timeout_s: float,
        metrics: TrainingMetrics,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._versions = versions
        self._staging = staging
        self._rules = rules
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._on_change = on_change
        self._lock = threading.Lock()
        self._current: _Run | None = None
        self._stopping = threading.Event()

    def start(self, request: JobRequest) -> Job:
        """Start a job; raises `JobRunningError` if there is one."""
        with self._lock:
            if self._current is not None:
                raise JobRunningError(self._current.job.id)
            if self._stopping.is_set():
                raise ConflictError("the service is being stopped")
            job = self._store.create_job(request.recipe, request.config(), request.promote)
            self._current = run = _Run(job)
            threading.Thread(
                target=self._conduct, args=(run,), name=f"menny-job-{job.id}", daemon=True
            ).start()
        return job

    def cancel(self, job_id: int) -> Job:
        """Cancel a job and wait for its end; raises `NotFoundError`, or `ConflictError` if late."""
        run = self._current
        if run is None or run.job.id != job_id:
            job = self._store.job(job_id)
            raise ConflictError(f"job {job_id} has ended already: {job.state}, {job.reason}")
        if not run.cancel(JobState.CANCELLED, "it was cancelled"):
            raise ConflictError(f"job {job_id} can't be cancelled: its version is being put in")
        run.ended.wait(_RETRY_S * 10)
        return self._store.job(job_id)

    def stop(self) -> None:
        """Interrupt the job that is running and wait for its end."""
        with self._lock:
            self._stopping.set()
            run = self._current
        if run is not None:
            run.cancel(JobState.INTERRUPTED, "the service was stopped")
            run.ended.wait()

    # --- on the job's thread --------------------------------------------------------------------

    def _conduct(self, run: "_Run") -> None:
        folder = self._staging / str(run.job.id)
        try:
            reason = self._train_and_decide(run, folder)
            self._end(run, JobState.SUCCEEDED, reason)
        except _CancelledError:
            self._end(run, *run.cancelled)
        except MennyError as error:
            self._end(run, JobState.FAILED, str(error))
        except OSError as error:
            self._end(run, JobState.FAILED, f"{error.filename}: {error.strerror}")
        except Exception:
            logger.exception("job %d met a fault of the service", run.job.id)
            self._end(run, JobState.FAILED, "a fault of the service; its log has more")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                self._current = None
            run.ended.set()
            self._on_change()

    def _train_and_decide(self, run: "_Run", folder: Path) -> str:
        """The whole job; returns how it went."""
        self._store.start_job(run.job.id)
        self._metrics.progress.set(0)
        self._metrics.loss.set(float("nan"))
        self._on_change()
        folder.mkdir(parents=True)
        timer = threading.Timer(self._timeout_s, run.time_out, [self._timeout_s])
        timer.daemon = True
        timer.start()
        try:
            weights = self._train(run, folder / "candidate.npz")
            self._enter(run, "checking")
            gate = self._check(run, weights, folder / "candidate.npz")
        finally:
            timer.cancel()
        return self._decide(run, weights, gate)

    def _train(self, run: "_Run", out: Path) -> Weights:
        """Have the training process train, and check what it wrote."""
        saved: SavedEvent | None = None
        task = TrainingTask(
            recipe=run.job.recipe,
            config=run.job.config,
            out=out,
            num_fresh_queries=_CHILDS_OWN_QUERIES,
        )
        with run.child(Child("the training process", task)) as child:
            for event in child.events():
                match event:
                    case PhaseEvent():
                        self._enter(run, event.phase)
                    case Epoch():
                        self._store.add_epoch(run.job.id, event)
                        self._metrics.progress.set(event.epoch / event.num_epochs)
                        self._metrics.loss.set(event.loss)
                        self._on_change()
                    case SavedEvent():
                        saved = event
        weights = load_weights(out)
        if saved is None or saved.sha256 != weights.sha256 or weights.card is None:
            raise ChildError("the training process wrote other weights than it said")
        if weights.card.config != run.job.config:
            raise ChildError("the training process trained something else than it was told to")
        return weights

    def _check(self, run: "_Run", weights: Weights, path: Path) -> GateReport:
        """Measure the new version beside the active one."""
        files = [Measurable(path, weights.sha256)]
        active = self._store.active_version()
        active_name = None
        with suppress(WeightsError):  # nothing to be better than
            active_weights = load_weights(self._versions.path(active))
            active_name = active_weights.version
            files.append(Measurable(self._versions.path(active), active_weights.sha256))
        candidate, *rest = measure(files, run.job.config, self._rules, run.child)
        gate = judge(candidate, rest[0] if rest else None, active_name, self._rules)
        self._store.set_gate(run.job.id, gate)
        return gate

    def _decide(self, run: "_Run", weights: Weights, gate: GateReport) -> str:
        """Keep the version or put it in; from here on there is no cancelling."""
        run.commit()
        assert weights.card is not None  # noqa: S101 - _train has seen to it
        card = weights.card.model_copy(
            update={"metrics": gate.candidate, "parent": gate.active_version}
        )
        job_id, version, promote = run.job.id, weights.version, run.job.promote
        if promote is Promote.NEVER:
            self._versions.keep(weights, card, job_id)
            return f"version {version} is kept, and not put in: promote is never"
        if promote is Promote.IF_BETTER and not gate.passed:
            self._versions.keep(weights, card, job_id)
            return f"version {version} is kept, and not put in: {gate.verdict}"
        self._enter(run, "promoting")
        measured_against = gate.active_version if promote is Promote.IF_BETTER else None
        if self._versions.promote(weights, card, job_id, measured_against=measured_against):
            return f"version {version} is active: {gate.verdict}"
        return (
            f"version {version} is kept, and not put in: version {gate.active_version}, which it "
            "was measured against, is no longer the active one"
        )

    def _enter(self, run: "_Run", phase: JobPhase) -> None:
        run.raise_if_cancelled()
        self._store.set_phase(run.job.id, phase)
        self._on_change()

    def _end(self, run: "_Run", state: JobState, reason: str) -> None:
        """Write the end down; while the database won't take it, try again until the service stops.

        If even then it won't, the next start finds the job unfinished, and calls it interrupted.
        """
        complaint = ""
        while True:
            try:
                self._store.end_job(run.job.id, state, reason)
                break
            except StateUnavailableError as error:
                if str(error) != complaint:  # once, and not each time until it is put right
                    complaint = str(error)
                    logger.error("job %d: %s, but %s", run.job.id, state, complaint)
                if self._stopping.wait(_RETRY_S):
                    break
        self._metrics.jobs.labels(state=state.value).inc()
        logger.info("job %d: %s: %s", run.job.id, state, reason)


class _CancelledError(Exception):
    """The job is to end now; `_Run.cancelled` says how."""


class _Run:
    """A job that is running, and the means to end it from another thread."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ended = threading.Event()
        self.cancelled: tuple[JobState, str] = (JobState.CANCELLED, "")
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._is_committed = False
        self._child: Child | None = None

    def cancel(self, state: JobState, reason: str) -> bool:
        """End the job with this state, by killing its child; `False` if it is too late."""
        with self._lock:
            if self._is_committed:
                return False
            if not self._is_cancelled:
                self._is_cancelled, self.cancelled = True, (state, reason)
                if self._child is not None:
                    self._child.kill()
            return True

    def time_out(self, seconds: float) -> None:
        """End the job because it took too long."""
        self.cancel(JobState.FAILED, f"it took longer than {seconds:,.0f} s")

    def raise_if_cancelled(self) -> None:
        """Raises `_CancelledError`."""
        if self._is_cancelled:
            raise _CancelledError

    def commit(self) -> None:
        """Let nobody cancel any more; raises `_CancelledError` if somebody has."""
        with self._lock:
            self.raise_if_cancelled()
            self._is_committed = True

    @contextmanager
    def child(self, child: Child) -> Iterator[Child]:
        """Run a child that dies when the job is cancelled; how it ended is then of no interest."""
        try:
            with child:
                with self._lock:
                    self._child = child
                    self.raise_if_cancelled()
                yield child
        except MennyError:
            self.raise_if_cancelled()
            raise
        finally:
            with self._lock:
                self._child = None
