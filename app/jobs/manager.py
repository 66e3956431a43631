"""Runs the jobs that are queued, one at a time, on a thread that waits for them.

Jobs are rows: whoever starts or cancels one, in this process or another, writes it down; the
thread here looks for that some times a second.
"""

import logging
import threading

from app.errors import ConflictError, StateUnavailableError
from app.jobs.conductor import INTERRUPTED, POLL_S, Conductor
from app.jobs.store import Store

logger = logging.getLogger(__name__)

STOP_S = 3.0
"""Seconds that a job gets to end when the service stops; its thread holds up no exit."""


class JobManager:
    """Takes queued jobs from the store and has them conducted."""

    def __init__(self, store: Store, conductor: Conductor) -> None:
        self._store = store
        self._conductor = conductor
        self._stopping = conductor.stopping
        self._thread = threading.Thread(target=self._run, name="menny-jobs", daemon=True)

    def start(self) -> None:
        """Start the thread; raises `StateUnavailableError` if the system has none to give."""
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

    def _run(self) -> None:
        complaint: str | None = None
        while not self._stopping.wait(POLL_S):
            try:
                job_id = self._store.find_queued_job()
                if job_id is not None:
                    self._conductor.conduct(job_id)
                complaint = None
            except StateUnavailableError as error:
                if str(error) != complaint:  # once, and not each time until it is put right
                    complaint = str(error)
                    logger.error("no job can be taken: %s", error)
            except ConflictError:  # it was cancelled just now
                pass
            except Exception:
                logger.exception("the jobs' thread met a fault of the service")
        try:
            self._store.interrupt_jobs(INTERRUPTED)
        except StateUnavailableError as error:
            logger.error("jobs can't be called interrupted: %s", error)
