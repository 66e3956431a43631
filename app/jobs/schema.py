"""The tables of the database, and how an older one becomes one of this schema."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

SCHEMA_VERSION = 5
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
    sa.Column("announced", sa.Text),  # the version that replicas were told of last
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    # Where several workers answer: the version that they are to prepare (null: the shipped one),
    # the number of that proposal, the worker that has made it (null: it was withdrawn), the number
    # of the one that became active last, and how often an answer table was made.
    sa.Column("proposed", sa.Text),
    sa.Column("proposal", sa.Integer, nullable=False, server_default="0"),
    sa.Column("proposer", sa.Integer),
    sa.Column("switched", sa.Integer, nullable=False, server_default="0"),
    sa.Column("tables", sa.Integer, nullable=False, server_default="0"),
)

verdicts = sa.Table(
    "verdicts",  # they stay when the version itself is deleted: the same weights may come again
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),  # of the weights
    sa.Column("proof", sa.JSON, nullable=False),
)
proofs = sa.Table(
    "proofs",  # that are on their way, one at a time, or could not be finished
    metadata,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("key", sa.Text),  # null: the shipped one
    sa.Column("requested", sa.Boolean, nullable=False),  # by somebody
    sa.Column("progress", sa.Float, nullable=False, default=0.0),
    sa.Column("fault", sa.Text),  # null: on its way
)

_MIGRATIONS = {
    1: (
        "ALTER TABLE jobs ADD COLUMN cancelling BOOLEAN NOT NULL DEFAULT 0",
        # The card is the file's beside the weights. Those of one job keep the order of their rows.
        "CREATE TABLE versions_2 (version TEXT NOT NULL PRIMARY KEY, place INTEGER NOT NULL, "
        "created TEXT, job INTEGER REFERENCES jobs (id))",
        "INSERT INTO versions_2 SELECT version, job, created, job FROM versions",
        "DROP TABLE versions",
        "ALTER TABLE versions_2 RENAME TO versions",
    ),
    2: (
        "ALTER TABLE active ADD COLUMN announced TEXT",
        "ALTER TABLE active ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    ),
    3: ("CREATE TABLE verdicts (sha256 TEXT NOT NULL PRIMARY KEY, proof JSON NOT NULL)",),
    4: (
        "ALTER TABLE active ADD COLUMN proposed TEXT",
        "ALTER TABLE active ADD COLUMN proposal INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE active ADD COLUMN proposer INTEGER",
        "ALTER TABLE active ADD COLUMN switched INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE active ADD COLUMN tables INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE proofs (version TEXT NOT NULL PRIMARY KEY, key TEXT, requested BOOLEAN NOT "
        "NULL, progress FLOAT NOT NULL, fault TEXT)",
    ),
}
"""What makes a database of a schema one of the next."""


def migrate(path: Path, timeout_s: float) -> Path | None:
    """Bring a database of an older schema to this one, all or nothing; a newer is left as it is.

    First it is copied aside, whole, to `path` with `.schema-N` at its end, which is returned.
    Raises `sqlite3.Error` or `OSError`.
    """
    # Foreign keys are not enforced on a new connection: a table may be replaced.
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as database:
        (found,) = database.execute("PRAGMA user_version").fetchone()
        if found not in _MIGRATIONS:
            return None
        aside = path.with_name(f"{path.name}.schema-{found}")
        partial = aside.with_name(f"{aside.name}.partial")
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as copy:
            database.backup(copy)
        partial.replace(aside)
        database.execute("BEGIN IMMEDIATE")
        try:
            for schema in range(found, SCHEMA_VERSION):
                for statement in _MIGRATIONS[schema]:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
    return aside
