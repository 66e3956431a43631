"""Opens and closes what retraining needs, and lives with its absence.

Whatever is wrong with the state directory, Menny still answers with the shipped weights; only
jobs and versions are unavailable then, with the reason.
"""

import logging
from contextlib import suppress

from app.errors import StateUnavailableError
from app.jobs.database import Database
from app.jobs.lock import ChangeLock, JobsLock, StateLock, take_state_directory, unusable
from app.jobs.manager import JobManager
from app.jobs.metrics import JobMetrics
from app.jobs.peers import Peers
from app.jobs.promotion import GateRules
from app.jobs.proving import Prover
from app.jobs.runner import Children
from app.jobs.serving import ModelEngine, Serving
from app.jobs.store import Store
from app.jobs.verdicts import Verdicts, proof_on
from app.jobs.versions import Versions
from app.scoreboard import Worker
from app.settings import Settings
from training.proof.check import Proof
from training.weights import ModelCard

logger = logging.getLogger(__name__)

DATABASE = "menny.sqlite3"

_INTERRUPTED = "the service ended while the job was running"


class Retraining:
    """Jobs and versions, or the reason why there are none.

    `reload` has the engine serve what is active; `stop` interrupts jobs. The state directory
    belongs to one service at a time; of several workers, one runs its jobs.
    """

    def __init__(
        self,
        settings: Settings,
        engine: ModelEngine,
        metrics: JobMetrics,
        children: Children | None = None,
        worker: Worker | None = None,
    ) -> None:
        """`worker`: this process is one of several, whose supervisor has the state directory."""
        self._settings = settings
        self._metrics = metrics
        self._children = children or Children(settings.device)
        self._folder = settings.state_dir
        self._worker = worker
        self._serving = Serving(
            engine,
            settings.weights,
            self._folder / "versions",
            is_pinned=settings.pin_weights,
            change=ChangeLock(self._folder, worker) if worker else None,
        )
        self._lock: StateLock | None = None
        self._jobs_lock: JobsLock | None = None
        self._peers: Peers | None = None
        self._database: Database | None = None
        self._prover: Prover | None = None
        self._opened: tuple[Store, Versions] | None = None
        self._manager: JobManager | None = None
        self._notes: list[str] = []
        self._unavailable: str | None = "retraining is not ready yet"

    @property
    def note(self) -> str | None:
        """What the person in charge should know, if there is anything."""
        notes = [*self._notes, self._serving.note, self._lock and self._lock.fault]
        return "; ".join(note for note in notes if note) or None

    def proof_of(self, version: str, card: ModelCard | None) -> Proof | None:
        """What asking a version every query there is has shown; `None` without a verdict."""
        if self._prover is None:
            return proof_on(card, version)
        return self._prover.proof_of(version, card)

    @property
    def store(self) -> Store:
        """Raises `StateUnavailableError`."""
        return self._open()[0]

    @property
    def versions(self) -> Versions:
        """Raises `StateUnavailableError`."""
        return self._open()[1]

    def start(self) -> None:
        """Take the state directory, clean up after a crash, run jobs.

        What is active answers from its table, if there is one; `reload` is to follow. Raises
        `StateUnavailableError` only if others answer with versions that this worker can't know.
        """
        with self._serving.change:
            try:
                self._start()
            except StateUnavailableError as error:
                self._give_up(error)
            except OSError as error:
                self._give_up(unusable(self._folder, error))
            self._serving.start(self._find_active)
            if self._peers is not None:
                self._peers.join()

    def reload(self) -> None:
        """Serve what is active, from its file as it is now; what can't be is said in `/health`."""
        self._serving.reload(self._find_active)

    def stop(self) -> None:
        """Interrupt what is running and let the state directory go."""
        if self._peers is not None:
            self._peers.leave()
        self.stop_jobs()
        if self._database is not None:
            self._database.close()
        for lock in (self._jobs_lock, self._lock):
            if lock is not None:
                lock.release()

    def stop_jobs(self) -> None:
        """Interrupt what is running, and take no more jobs."""
        if self._manager is not None:
            self._manager.stop()

    def _start(self) -> None:
        settings, folder = self._settings, self._folder
        versions_folder, staging = folder / "versions", folder / "staging"
        if self._worker is None:
            self._lock = take_state_directory(folder)
        elif self._worker.unavailable is not None:
            raise StateUnavailableError(self._worker.unavailable)
        else:
            self._jobs_lock = JobsLock(folder)
        versions_folder.mkdir(exist_ok=True)
        self._database = database = Database(folder / DATABASE)
        store = Store(database)
        self._prover = prover = Prover(
            Verdicts(database),
            self._serving,
            self._children,
            staging,
            folder / "answers",
            self._metrics,
            is_automatic=settings.prove == "auto",
            wants_table=settings.answers == "auto",
        )
        versions = Versions(store, self._serving, prover, versions_folder, settings.keep_versions)
        rules = GateRules(
            settings.gate_queries, settings.gate_rule_accuracy, settings.gate_excess_nll_tolerance
        )
        self._manager = JobManager(
            store,
            versions,
            prover,
            self._children,
            rules,
            staging,
            settings.training_timeout_s,
            self._metrics,
            lambda: self._take_turn(database, store, versions, prover),
        )
        self._opened = store, versions
        self._manager.start()
        if self._worker is not None:
            self._peers = Peers(database, self._serving, self._worker)
        self._unavailable = None

    def _take_turn(
        self, database: Database, store: Store, versions: Versions, prover: Prover
    ) -> bool:
        """Whether this process runs jobs from now on; then it cleans up after who did before."""
        if self._jobs_lock is not None and not self._jobs_lock.take():
            return False
        is_one_of_several = self._worker is not None  # then what is queued has who runs it
        for job_id in store.interrupt_jobs(_INTERRUPTED, only_running=is_one_of_several):
            logger.warning("job %d was interrupted: %s", job_id, _INTERRUPTED)
        with self._serving.change:
            taken_in = versions.take_in()
            with suppress(OSError):
                prover.tidy({version.version for version in versions.list_all()})
        if taken_in and database.is_new:
            self._notes.append(
                f"the database was lost, and is a new one; versions {', '.join(taken_in)} are "
                "taken in again from their files; which one was active is not known: activate it"
            )
            logger.error(self._notes[-1])
        return True

    def _find_active(self) -> str | None:
        return None if self._opened is None else self._opened[0].get_active_version()

    def _open(self) -> tuple[Store, Versions]:
        if self._opened is None or self._unavailable:
            raise StateUnavailableError(self._unavailable or "")
        return self._opened

    def _give_up(self, error: StateUnavailableError) -> None:
        if self._worker is not None and any(row.has_joined for row in self._worker.others):
            raise error
        self._unavailable = reason = str(error)
        self._notes = [f"retraining is unavailable: {reason}"]
        logger.error("%s; /transform answers, /train and /models don't", self._notes[0])
        self._manager = self._opened = None
        if self._database is not None:
            self._database.close()
