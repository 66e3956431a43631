"""The SQLite file that all processes share: opened, migrated, and guarded against being replaced.

Write-ahead logging, so that readers never wait for a writer; full synchronisation, so that what
was committed survives a power cut.
"""

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import StateUnavailableError
from app.jobs.schema import SCHEMA_VERSION, active, metadata, migrate

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 2.0

_REMEDIES = {
    "database is locked": "another program holds it: end that",
    "attempt to write a readonly database": "make it writable",
    "unable to open database file": "make its folder writable",
    "database or disk is full": "make room on the disk",
    "disk I/O error": "make room on the disk, or look for a fault of it",
    "file is not a database": "move it away",
}

_Identity = tuple[int, int] | None


class Database:
    """The database in one file, which is made or migrated if need be.

    Raises `StateUnavailableError` if that can't be done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_TIMEOUT_S},
            json_deserializer=_read_json,
        )
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        self._identity: tuple[_Identity, _Identity] | None = None
        try:
            self._migrate()
            self.is_new = self._prepare()
            """Whether the file was not there before."""
            self._identity = self._find_identity()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Connection]:
        """All or nothing. Raises `StateUnavailableError`, also for a value that makes no sense."""
        if self._identity is not None and self._find_identity() != self._identity:
            # SQLite would go on in the open files, and what it writes there would be lost.
            raise StateUnavailableError(
                f"the database {self._path}, or its -wal, was removed or replaced while the "
                "service was running: put it back, or restart the service"
            )
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(write=write)
                with connection.begin():
                    yield connection
        except (SQLAlchemyError, ValueError) as error:
            raise self._unavailable(error) from error

    def _migrate(self) -> None:
        try:
            aside = migrate(self._path, BUSY_TIMEOUT_S)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error
        if aside is not None:
            logger.info("the database has schema %d now; %s is the old", SCHEMA_VERSION, aside)

    def _prepare(self) -> bool:
        with self.transaction() as connection:
            found: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > SCHEMA_VERSION:
                raise StateUnavailableError(
                    f"the database {self._path} has schema {found}, and this Menny knows schema "
                    f"{SCHEMA_VERSION}: it was written by a newer one; upgrade Menny, or name "
                    "another MENNY_STATE_DIR"
                )
            if found == 0:
                metadata.create_all(connection, checkfirst=False)
                connection.execute(sa.insert(active).values(id=1, version=None))
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return found == 0

    def _find_identity(self) -> tuple[_Identity, _Identity]:
        """Which files are there now: device and inode of the database and of its log."""
        return _identity_of(self._path), _identity_of(Path(f"{self._path}-wal"))

    def _unavailable(self, error: Exception) -> StateUnavailableError:
        cause = str(getattr(error, "orig", None) or error)
        remedy = f"; {_REMEDIES[cause]}" if cause in _REMEDIES else ""
        return StateUnavailableError(f"the database {self._path} can't be used: {cause}{remedy}")


def _identity_of(path: Path) -> _Identity:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _on_connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # sqlite3 leaves transactions to us: see _on_begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
    cursor.execute("PRAGMA checkpoint_fullfsync = ON")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: no transaction fails half-way because another one wrote.
    is_write = connection.get_execution_options().get("write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _read_json(text: Any) -> Any:
    """JSON, or what is there instead: then only the row that has it makes no sense."""
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text
