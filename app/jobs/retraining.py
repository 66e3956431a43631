"""Opens and closes what retraining needs, and lives with its absence.

Whatever is wrong with the state directory, Menny still answers with the shipped weights; only
jobs and versions are unavailable then, with the reason.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.errors import StateUnavailableError
from app.jobs.manager import JobManager
from app.jobs.metrics import TrainingMetrics
from app.jobs.promotion import GateRules
from app.jobs.store import Store
from app.jobs.versions import Versions
from app.settings import Settings
from training.errors import WeightsError
from training.weights import Weights, load_weights

logger = logging.getLogger(__name__)

DATABASE = "menny.sqlite3"

_INTERRUPTED = "the service ended while the job was running"


class Retraining:
    """Jobs and versions, or the reason why there are none.

    First `open`, which says what to serve, then `start` with an engine that serves it, at last
    `stop`. The state directory belongs to one service at a time.
    """

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._metrics = TrainingMetrics(registry)
        self._lock: int | None = None
        self._store: Store | None = None
        self._versions: Versions | None = None
        self._jobs: JobManager | None = None
        self._damaged: str | None = None
        self.unavailable: str | None = None
        """Why there are no jobs and versions, if there are none."""
        self.note: str | None = None
        """What the person in charge should know, if there is anything."""

    @property
    def weights(self) -> Path:
        """The weights file to serve: the active version's, or the shipped one."""
        try:
            active = None if self._store is None else self._store.active_version()
        except StateUnavailableError as error:
            logger.error("the shipped weights are served: %s", error)
            active = None
        if active is None or active == self._damaged:
            return self._settings.weights
        return self._versions_folder / f"{active}.npz"

    @property
    def store(self) -> Store:
        """Raises `StateUnavailableError`."""
        if self._store is None:
            raise self._unavailable()
        return self._store

    @property
    def versions(self) -> Versions:
        """Raises `StateUnavailableError`."""
        if self._versions is None:
            raise self._unavailable()
        return self._versions

    @property
    def jobs(self) -> JobManager:
        """Raises `StateUnavailableError`."""
        if self._jobs is None:
            raise self._unavailable()
        return self._jobs

    def open(self) -> None:
        """Take the state directory, clean up after a crash, find the active version."""
        folder = self._settings.state_dir
        try:
            self._versions_folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / "lock")
            shutil.rmtree(self._staging, ignore_errors=True)
            self._store = Store(folder / DATABASE)
            for job_id in self._store.interrupt_jobs(_INTERRUPTED):
                logger.warning("job %d was interrupted: %s", job_id, _INTERRUPTED)
            self._check_weights(self._store.active_version())
        except StateUnavailableError as error:
            self._give_up(str(error))
        except OSError as error:
            self._give_up(
                f"the state directory {folder} can't be used: {error.strerror}; make it a writable "
                "directory, or name another MENNY_STATE_DIR"
            )

    def start(self, swap: Callable[[Weights], None], on_change: Callable[[], None]) -> None:
        """Be ready for jobs; `swap` is the engine's, `on_change` is called on any thread."""
        if self._store is None:
            return
        settings = self._settings
        versions = Versions(
            self._store, self._versions_folder, settings.weights, swap, settings.keep_versions
        )
        try:
            versions.tidy()
        except (OSError, StateUnavailableError) as error:
            self._give_up(f"the state directory {settings.state_dir} can't be used: {error}")
            return
        self._versions = versions
        self._jobs = JobManager(
            self._store,
            versions,
            self._staging,
            GateRules(
                settings.gate_queries,
                settings.gate_rule_accuracy,
                settings.gate_excess_nll_tolerance,
            ),
            settings.training_timeout_s,
            self._metrics,
            on_change,
        )

    def stop(self) -> None:
        """Interrupt what is running and let the state directory go."""
        if self._jobs is not None:
            self._jobs.stop()
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            os.close(self._lock)

    @property
    def _versions_folder(self) -> Path:
        return self._settings.state_dir / "versions"

    @property
    def _staging(self) -> Path:
        return self._settings.state_dir / "staging"

    def _check_weights(self, active: str | None) -> None:
        if active is None:
            return
        path = self._versions_folder / f"{active}.npz"
        try:
            found = load_weights(path).version
            if found != active:
                raise WeightsError(f"{path} holds version {found}")
        except WeightsError as error:
            self.note = (
                f"version {active} is the active one, but can't be served: {error}; the shipped "
                "weights answer instead"
            )
            self._damaged = active
            logger.error(self.note)

    def _give_up(self, reason: str) -> None:
        self.unavailable = reason
        self.note = f"retraining is unavailable: {reason}"
        logger.error("%s; /transform answers, /train and /models don't", self.note)
        if self._store is not None:
            self._store.close()
            self._store = None

    def _unavailable(self) -> StateUnavailableError:
        return StateUnavailableError(self.unavailable or "retraining is not ready yet")


def _lock(path: Path) -> int:
    """Hold the lock file until the process ends, however it ends; returns its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise StateUnavailableError(
                f"another service uses the state directory {path.parent}: stop it, or name another "
                "MENNY_STATE_DIR"
            ) from None
        raise
    return descriptor
