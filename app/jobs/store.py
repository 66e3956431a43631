"""The truth about jobs and versions, and all that processes share of them: rows in the database.

Every method is one transaction and may be called from any thread or process; each raises
`StateUnavailableError` if the database can't be used.
"""

import logging
import time
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from app.errors import ConflictError, JobRunningError, NotFoundError, UnreadableRowError
from app.jobs.database import Database
from app.jobs.job import GateReport, Job, JobPhase, JobState, Promote, VersionRow
from app.jobs.rows import job_of, version_of
from app.jobs.schema import active, epochs, jobs, versions
from training.config import Recipe, TrainingConfig
from training.epoch import Epoch

logger = logging.getLogger(__name__)

_UNFINISHED = jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])


class Store:
    """Reads and writes what the database has on jobs and versions."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    # --- jobs -----------------------------------------------------------------------------------

    def create_job(self, recipe: Recipe, config: TrainingConfig, promote: Promote) -> Job:
        """Queue a job; raises `JobRunningError` if there is one that has not ended."""
        with self._transaction() as connection:
            running = connection.scalar(sa.select(jobs.c.id).where(_UNFINISHED))
            if running is not None:
                raise JobRunningError(running)
            values = {
                "state": JobState.QUEUED,
                "recipe": recipe,
                "config": config.model_dump(mode="json"),
                "promote": promote,
                "created": _now(),
            }
            inserted = connection.execute(sa.insert(jobs).values(values))
            return _read_job(connection, inserted.lastrowid)

    def find_queued_job(self) -> int | None:
        """The id of the job to run next."""
        query = sa.select(jobs.c.id).where(jobs.c.state == JobState.QUEUED).order_by(jobs.c.id)
        with self._transaction(write=False) as connection:
            found: int | None = connection.scalar(query)
            return found

    def start_job(self, job_id: int) -> Job:
        """Mark a job as running; raises `ConflictError` if it is not queued any more."""
        with self._transaction() as connection:
            changed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED)
                .values(state=JobState.RUNNING, phase="starting", started=_now())
            )
            if not changed.rowcount:
                raise ConflictError(f"job {job_id} is not queued")
            return _read_job(connection, job_id)

    def set_phase(self, job_id: int, phase: JobPhase) -> None:
        """Set what a running job does."""
        self._update_job(job_id, phase=phase)

    def set_gate(self, job_id: int, gate: GateReport) -> None:
        """Keep how the job's version was judged."""
        self._update_job(job_id, gate=gate.model_dump(mode="json"))

    def add_epoch(self, job_id: int, epoch: Epoch) -> None:
        """Keep what the job reported of an epoch."""
        values = {"job": job_id, "epoch": epoch.epoch, "report": epoch.model_dump(mode="json")}
        with self._transaction() as connection:
            connection.execute(sa.insert(epochs).values(values))

    def cancel_job(self, job_id: int) -> None:
        """End a queued job, or ask for the end of a running one.

        Raises `NotFoundError`, or `ConflictError` if it has ended or its version becomes active.
        """
        with self._transaction() as connection:
            job = _read_job(connection, job_id)
            if job.state.has_ended:
                raise ConflictError(f"job {job_id} has ended already: {job.state}, {job.reason}")
            if job.phase == "promoting":
                raise ConflictError(
                    f"job {job_id} can't be cancelled: its version is being activated"
                )
            values: dict[str, object] = {"cancelling": True}
            if job.state is JobState.QUEUED:
                values |= _end(JobState.CANCELLED, "it was cancelled")
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))

    def is_cancelling(self, job_id: int) -> bool:
        """Whether somebody has asked for the job's end."""
        with self._transaction(write=False) as connection:
            query = sa.select(jobs.c.cancelling).where(jobs.c.id == job_id)
            return bool(connection.scalar(query))

    def commit_job(self, job_id: int) -> bool:
        """Enter the phase `promoting`, in which nobody can cancel; `False` if somebody has."""
        with self._transaction() as connection:
            changed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, ~jobs.c.cancelling)
                .values(phase="promoting")
            )
            return bool(changed.rowcount)

    def end_job(self, job_id: int, state: JobState, reason: str) -> None:
        """Set how a job ended."""
        self._update_job(job_id, **_end(state, reason))

    def interrupt_jobs(self, reason: str, *, only_running: bool = False) -> list[int]:
        """End every job that has not ended, for nobody runs them any more; returns their ids."""
        ended = jobs.c.state == JobState.RUNNING if only_running else _UNFINISHED
        with self._transaction() as connection:
            found = list(connection.scalars(sa.select(jobs.c.id).where(ended)))
            connection.execute(
                sa.update(jobs).where(ended).values(_end(JobState.INTERRUPTED, reason))
            )
        return found

    def get_job(self, job_id: int) -> Job:
        """Raises `NotFoundError`."""
        with self._transaction(write=False) as connection:
            return _read_job(connection, job_id)

    def list_jobs(self, limit: int, before: int | None = None) -> list[Job]:
        """The newest first, those with an id below `before`; what can't be read is left out."""
        query = _SELECT_JOBS.order_by(jobs.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(jobs.c.id < before)
        found = []
        with self._transaction(write=False) as connection:
            for row in connection.execute(query).mappings():
                try:
                    found.append(job_of(row))
                except UnreadableRowError as error:
                    logger.error("%s; it is left out of the list", error)
        return found

    def watch_job(self, job_id: int, after: int) -> tuple[Job, list[Epoch]]:
        """A job and what it reported after epoch `after`, in order; raises `NotFoundError`."""
        newer = sa.and_(epochs.c.job == jobs.c.id, epochs.c.epoch > after)
        query = (
            _SELECT_JOBS.add_columns(epochs.c.report)
            .outerjoin_from(jobs, epochs, newer)
            .where(jobs.c.id == job_id)
            .order_by(epochs.c.epoch)
        )
        with self._transaction(write=False) as connection:
            rows = connection.execute(query).mappings().all()
        if not rows:
            raise _no_job(job_id)
        reports = [row["report"] for row in rows if row["report"] is not None]
        return job_of(rows[0]), [Epoch.model_validate(report) for report in reports]

    def _update_job(self, job_id: int, **values: object) -> None:
        with self._transaction() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))

    # --- versions -------------------------------------------------------------------------------

    def add_version(self, version: str, created: datetime | None) -> None:
        """Add a version that no job is known to have made, inactive, as the newest."""
        with self._transaction() as connection:
            _add_version(connection, version, created, None)

    def keep_version(self, job_id: int, version: str, *, key: str | None) -> None:
        """Note the version that a job made, as the newest.

        `key` is `None` if that is the shipped version once more, which has no row.
        """
        with self._transaction() as connection:
            if key is not None:
                _add_version(connection, key, datetime.now(UTC), job_id)
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(version=version))

    def activate_version(self, key: str | None, version: str, job_id: int | None = None) -> None:
        """Set the version to serve, now and after a restart; note it in the job that made it.

        That is a new generation, also where the version is an older one, or the same.
        """
        with self._transaction() as connection:
            connection.execute(sa.update(active).values(version=key, switched=active.c.proposal))
            _raise_generation(connection, version)
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(promoted=True))

    def list_versions(self) -> list[VersionRow]:
        """The newest first: by their place, for the clock may have been put back."""
        query = sa.select(versions).order_by(versions.c.place.desc())
        with self._transaction(write=False) as connection:
            return [version_of(row) for row in connection.execute(query).mappings()]

    def delete_version(self, version: str) -> None:
        """Delete a version's row; it must not be the active one."""
        with self._transaction() as connection:
            connection.execute(sa.delete(versions).where(versions.c.version == version))

    def get_active_version(self) -> str | None:
        """The version to serve; `None` is the shipped one."""
        with self._transaction(write=False) as connection:
            version: str | None = connection.scalar(sa.select(active.c.version))
            return version

    def announce(self, version: str) -> int:
        """The generation of the version that answers, a new one if nobody has activated that.

        So it is with weights that were replaced, or answer in place of damaged ones.
        """
        with self._transaction() as connection:
            known = connection.execute(sa.select(active)).one()
            if known.announced == version:
                return int(known.generation)
            return _raise_generation(connection, version)


_latest = (
    sa.select(epochs.c.report)
    .where(epochs.c.job == jobs.c.id)
    .order_by(epochs.c.epoch.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_SELECT_JOBS = sa.select(jobs, _latest.label("latest"))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _end(state: JobState, reason: str) -> dict[str, object]:
    return {"state": state, "phase": None, "reason": reason, "ended": _now()}


def _add_version(
    connection: Connection, version: str, created: datetime | None, job_id: int | None
) -> None:
    """Add a version as the newest; one that is there already becomes the newest."""
    highest: int | None = connection.scalar(sa.select(sa.func.max(versions.c.place)))
    values = {
        "place": (highest or 0) + 1,
        "created": created and created.isoformat(),
        "job": job_id,
    }
    insertion = sqlite_insert(versions).values(version=version, **values)
    connection.execute(insertion.on_conflict_do_update(index_elements=["version"], set_=values))


def _raise_generation(connection: Connection, version: str) -> int:
    """By the clock, in milliseconds, so that it rises though the database was lost."""
    known: int = connection.execute(sa.select(active.c.generation)).scalar_one()
    generation = max(known + 1, time.time_ns() // 10**6)
    values = {"announced": version, "generation": generation}
    connection.execute(sa.update(active).values(values))
    return generation


def _no_job(job_id: int) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id}; GET /train lists those there are")


def _read_job(connection: Connection, job_id: int) -> Job:
    row = connection.execute(_SELECT_JOBS.where(jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise _no_job(job_id)
    return job_of(row)
