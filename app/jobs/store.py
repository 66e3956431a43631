"""The truth about jobs and versions: one SQLite database.

Write-ahead logging, so that readers never wait for a writer; full synchronisation, so that what
was committed survives a power cut. Every method is one transaction and may be called from any
thread; each raises `StateUnavailableError` if the database can't be used.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import NotFoundError, StateUnavailableError
from app.jobs.job import GateReport, Job, JobPhase, JobState, Promote
from training.config import Recipe, TrainingConfig
from training.epoch import Epoch
from training.weights import ModelCard

SCHEMA_VERSION = 1
"""In SQLite's `user_version`; 0 is a new database."""

BUSY_TIMEOUT_S = 2.0

_schema = sa.MetaData()

_jobs = sa.Table(
    "jobs",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("phase", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("promote", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("started", sa.Text),
    sa.Column("ended", sa.Text),
    sa.Column("version", sa.Text),  # stays when the version itself is deleted
    sa.Column("promoted", sa.Boolean, nullable=False, default=False),
    sa.Column("gate", sa.Text),
    sqlite_autoincrement=True,  # an id is never used twice
)
_epochs = sa.Table(
    "epochs",
    _schema,
    sa.Column("job", sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("report", sa.Text, nullable=False),
)
_versions = sa.Table(
    "versions",
    _schema,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("job", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("card", sa.Text, nullable=False),
)
_active = sa.Table(
    "active",
    _schema,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("version", sa.ForeignKey("versions.version")),  # null: the shipped one
)


@dataclass(frozen=True)
class VersionRow:
    """A version that a job made."""

    version: str
    created: datetime
    job: int
    card: ModelCard


class Store:
    """The database in one file, which is made if it isn't there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_TIMEOUT_S},
        )
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        self._identity: tuple[int, int] | None = None
        try:
            self._prepare()
            self._identity = self._find_identity()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._engine.dispose()

    # --- jobs -----------------------------------------------------------------------------------

    def create_job(self, recipe: Recipe, config: TrainingConfig, promote: Promote) -> Job:
        """A new job, queued."""
        with self._transaction() as connection:
            inserted = connection.execute(
                sa.insert(_jobs).values(
                    state=JobState.QUEUED,
                    recipe=recipe,
                    config=config.model_dump_json(),
                    promote=promote,
                    created=_now(),
                )
            )
            job_id: int = inserted.lastrowid
            return _read_job(connection, job_id)

    def start_job(self, job_id: int) -> None:
        """It is running."""
        self._update_job(job_id, state=JobState.RUNNING, phase="starting", started=_now())

    def set_phase(self, job_id: int, phase: JobPhase) -> None:
        """What the running job does now."""
        self._update_job(job_id, phase=phase)

    def set_gate(self, job_id: int, gate: GateReport) -> None:
        """How the job's version was judged."""
        self._update_job(job_id, gate=gate.model_dump_json())

    def add_epoch(self, job_id: int, epoch: Epoch) -> None:
        """Keep what the job reported of an epoch."""
        with self._transaction() as connection:
            connection.execute(
                sa.insert(_epochs).values(
                    job=job_id, epoch=epoch.epoch, report=epoch.model_dump_json()
                )
            )

    def end_job(self, job_id: int, state: JobState, reason: str) -> None:
        """It has ended."""
        self._update_job(job_id, state=state, phase=None, reason=reason, ended=_now())

    def interrupt_jobs(self, reason: str) -> list[int]:
        """End every job that has not ended: nobody runs them any more."""
        with self._transaction() as connection:
            unfinished = _jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])
            found = list(connection.scalars(sa.select(_jobs.c.id).where(unfinished)))
            connection.execute(
                sa.update(_jobs)
                .where(unfinished)
                .values(state=JobState.INTERRUPTED, phase=None, reason=reason, ended=_now())
            )
        return found

    def job(self, job_id: int) -> Job:
        """Raises `NotFoundError`."""
        with self._transaction(write=False) as connection:
            return _read_job(connection, job_id)

    def jobs(self, limit: int, before: int | None = None) -> list[Job]:
        """The newest ones first, those with an id below `before`."""
        query = sa.select(_jobs.c.id).order_by(_jobs.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(_jobs.c.id < before)
        with self._transaction(write=False) as connection:
            return [_read_job(connection, job_id) for job_id in connection.scalars(query).all()]

    def epochs(self, job_id: int, after: int = 0) -> list[Epoch]:
        """What the job reported after epoch `after`, in order."""
        query = (
            sa.select(_epochs.c.report)
            .where(_epochs.c.job == job_id, _epochs.c.epoch > after)
            .order_by(_epochs.c.epoch)
        )
        with self._transaction(write=False) as connection:
            return [Epoch.model_validate_json(report) for report in connection.scalars(query)]

    def _update_job(self, job_id: int, **values: object) -> None:
        with self._transaction() as connection:
            connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(**values))

    # --- versions -------------------------------------------------------------------------------

    def add_version(
        self, job_id: int, version: str, row: VersionRow | None, *, activate: bool
    ) -> None:
        """Keep the version that a job made and, in the same transaction, make it the active one.

        `row` is `None` for the shipped version, which a job may have made once more: the same
        configuration gives the same weights. A version that is there already stays as it is.
        """
        with self._transaction() as connection:
            if row is not None:
                connection.execute(
                    sqlite_insert(_versions)
                    .values(
                        version=version,
                        created=row.created.isoformat(),
                        job=job_id,
                        card=row.card.model_dump_json(),
                    )
                    .on_conflict_do_nothing()
                )
            if activate:
                _set_active(connection, version if row else None)
            connection.execute(
                sa.update(_jobs)
                .where(_jobs.c.id == job_id)
                .values(version=version, promoted=activate)
            )

    def versions(self) -> list[VersionRow]:
        """The newest ones first: by their jobs' ids, for the clock may have been put back."""
        query = sa.select(_versions).order_by(_versions.c.job.desc())
        with self._transaction(write=False) as connection:
            return [_version_of(row) for row in connection.execute(query).mappings()]

    def delete_version(self, version: str) -> None:
        """Forget it."""
        with self._transaction() as connection:
            connection.execute(sa.delete(_versions).where(_versions.c.version == version))

    def active_version(self) -> str | None:
        """The version to serve; `None` is the shipped one."""
        with self._transaction(write=False) as connection:
            version: str | None = connection.scalar(sa.select(_active.c.version))
            return version

    def set_active_version(self, version: str | None) -> None:
        """From the next start on it is the one to serve."""
        with self._transaction() as connection:
            _set_active(connection, version)

    def unpromote(self, job_id: int, version: str | None) -> None:
        """Undo a promotion that the engine would not follow: `version` is active again."""
        with self._transaction() as connection:
            _set_active(connection, version)
            connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(promoted=False))

    # --- the file -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > SCHEMA_VERSION:
                raise StateUnavailableError(
                    f"the database {self._path} has schema {found}, and this Menny knows schema "
                    f"{SCHEMA_VERSION}: it was written by a newer one; upgrade Menny, or name "
                    "another MENNY_STATE_DIR"
                )
            if found == 0:
                _schema.create_all(connection, checkfirst=False)
                connection.execute(sa.insert(_active).values(id=1, version=None))
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[Connection]:
        """All or nothing; what goes wrong is said in words."""
        if self._identity is not None and self._find_identity() != self._identity:
            # SQLite would go on in the open file, and what it writes there would be lost.
            raise StateUnavailableError(
                f"the database {self._path} was removed or replaced while the service was "
                "running: put it back, or restart the service to begin with a new one"
            )
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(write=write)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise StateUnavailableError(self._explain(error)) from error

    def _find_identity(self) -> tuple[int, int] | None:
        """Which file is there now: device and inode; `None` if there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _explain(self, error: SQLAlchemyError) -> str:
        cause = str(getattr(error, "orig", None) or error)
        remedy = {
            "database is locked": "another program holds it: end that",
            "attempt to write a readonly database": "make it writable",
            "unable to open database file": "make its folder writable",
            "database or disk is full": "make room on the disk",
            "disk I/O error": "make room on the disk, or look for a fault of it",
            "file is not a database": "move it away",
        }.get(cause)
        return f"the database {self._path} can't be used: {cause}" + (
            f"; {remedy}" if remedy else ""
        )


def _on_connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # sqlite3 leaves transactions to us: see _on_begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: no transaction fails half-way because another one wrote.
    is_write = connection.get_execution_options().get("write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _set_active(connection: Connection, version: str | None) -> None:
    connection.execute(sa.update(_active).values(version=version))


def _read_job(connection: Connection, job_id: int) -> Job:
    row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no job {job_id}; GET /train lists those there are")
    latest = connection.scalar(
        sa.select(_epochs.c.report)
        .where(_epochs.c.job == job_id)
        .order_by(_epochs.c.epoch.desc())
        .limit(1)
    )
    fields: dict[str, Any] = dict(row)
    fields["config"] = json.loads(row["config"])
    fields["gate"] = row["gate"] and json.loads(row["gate"])
    if latest is not None:
        fields |= _progress(Epoch.model_validate_json(latest), JobState(row["state"]))
    return Job.model_validate(fields)


def _progress(epoch: Epoch, state: JobState) -> dict[str, Any]:
    elapsed = max(0.0, (datetime.now(UTC) - epoch.at).total_seconds())  # the clock may go back
    return {
        "progress": epoch.epoch / epoch.num_epochs,
        "epoch": epoch.epoch,
        "loss": epoch.loss,
        "validation": epoch.validation,
        "eta_seconds": None if state.has_ended else max(0.0, epoch.seconds_left - elapsed),
    }


def _version_of(row: RowMapping) -> VersionRow:
    return VersionRow(
        row["version"],
        datetime.fromisoformat(row["created"]),
        row["job"],
        ModelCard.model_validate_json(row["card"]),
    )
