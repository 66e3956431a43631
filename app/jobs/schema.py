"""The tables of the database, and how an older one becomes one of this schema."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

SCHEMA_VERSION = 2
"""In SQLite's `user_version`; 0 is a new database."""

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("phase", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("promote", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("started", sa.Text),
    sa.Column("ended", sa.Text),
    sa.Column("version", sa.Text),  # stays when the version itself is deleted
    sa.Column("promoted", sa.Boolean, nullable=False, default=False),
    sa.Column("gate", sa.JSON(none_as_null=True)),
    sa.Column("cancelling", sa.Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,  # an id is never used twice
)
epochs = sa.Table(
    "epochs",
    metadata,
    sa.Column("job", sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("report", sa.JSON, nullable=False),
)
versions = sa.Table(
    "versions",
    metadata,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),  # the newest has the highest
    sa.Column("created", sa.Text),
    sa.Column("job", sa.ForeignKey("jobs.id")),  # null: its file was found without a row
)
active = sa.Table(
    "active",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("version", sa.ForeignKey("versions.version")),  # null: the shipped one
)

_FROM_1_TO_2 = (
    "ALTER TABLE jobs ADD COLUMN cancelling BOOLEAN NOT NULL DEFAULT 0",
    # The card is the file's beside the weights. Those of one job keep the order of their rows.
    "CREATE TABLE versions_2 (version TEXT NOT NULL PRIMARY KEY, place INTEGER NOT NULL, "
    "created TEXT, job INTEGER REFERENCES jobs (id))",
    "INSERT INTO versions_2 SELECT version, job, created, job FROM versions",
    "DROP TABLE versions",
    "ALTER TABLE versions_2 RENAME TO versions",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def migrate(path: Path, timeout_s: float) -> Path | None:
    """Bring a database of schema 1 to this one, all or nothing; any other is left as it is.

    First it is copied aside, whole, to `path` with `.schema-1` at its end, which is returned.
    Raises `sqlite3.Error` or `OSError`.
    """
    # Foreign keys are not enforced on a new connection: a table may be replaced.
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as database:
        if database.execute("PRAGMA user_version").fetchone() != (1,):
            return None
        aside = path.with_name(f"{path.name}.schema-1")
        partial = aside.with_name(f"{aside.name}.partial")
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as copy:
            database.backup(copy)
        partial.replace(aside)
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in _FROM_1_TO_2:
                database.execute(statement)
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
    return aside
