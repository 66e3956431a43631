"""The database: an older one is migrated, a row that makes no sense costs that row alone."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import StateUnavailableError, UnreadableRowError
from app.jobs.database import Database
from tests.jobs.house import SHIPPED, Home, house, make_weights, version_of, wait_forever
from tests.waiting import eventually
from training.weights import save_weights

SCHEMA_1 = Path(__file__).with_name("schema_1.sql").read_text()
"""What Menny 0.1.0 wrote: four jobs that have ended, one that was running, three versions."""

MADE = ["5d922f30012a", "c0f676881a59", "ca7d1af00abd"]
"""The versions in it, the oldest first; the first is the active one."""

TO_SCHEMA_4 = [
    *(
        f"ALTER TABLE active DROP COLUMN {name}"
        for name in ("proposed", "proposal", "proposer", "switched", "tables")
    ),
    "DROP TABLE proofs",
]
"""What makes a database of this schema one of schema 4."""


def write_schema_1(state: Path) -> list[str]:
    """A state directory with a database of schema 1; returns the versions, the oldest first."""
    (state / "versions").mkdir(parents=True)
    script, versions = SCHEMA_1, []
    for seed, name in enumerate(MADE, start=1):
        versions.append(version_of(seed))
        script = script.replace(name, versions[-1])
        save_weights(state / "versions" / f"{versions[-1]}.npz", *make_weights(seed))
    with closing(sqlite3.connect(state / "menny.sqlite3")) as database:
        database.executescript(f"PRAGMA journal_mode = WAL;\n{script}")
    return versions


def change(state: Path, *statements: str) -> None:
    with closing(sqlite3.connect(state / "menny.sqlite3")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_a_database_of_schema_1_is_copied_aside_and_migrated_with_all_that_is_in_it(
    tmp_path: Path,
) -> None:
    first, second, third = write_schema_1(tmp_path)
    with house(tmp_path) as home:
        assert home.retraining.note is None
        assert (home.engine.answers, home.active()) == (first, [first])
        assert home.listed() == [third, second, first, SHIPPED]
        jobs = home.store.list_jobs(10)
        assert [job.id for job in jobs] == [5, 4, 3, 2, 1]
        assert [job.state for job in jobs[1:]] == ["cancelled", *["succeeded"] * 3]
        assert (jobs[0].state, jobs[0].reason) == (
            "interrupted",
            "the service ended while the job was running",
        )
        assert (jobs[4].version, jobs[4].promoted, jobs[4].gate.active_version) == (
            first,
            True,
            "e0bdc690093e",  # which shipped then
        )
        assert [epoch.epoch for epoch in home.store.watch_job(1, 0)[1]] == [1, 2]
        fourth = home.make(4, "always")
        assert home.store.list_jobs(1)[0].id == 6
        assert home.listed() == [fourth, third, second, first, SHIPPED]
        home.versions.delete(first)
    with closing(sqlite3.connect(tmp_path / "menny.sqlite3.schema-1")) as aside:
        assert aside.execute("PRAGMA user_version").fetchone() == (1,)
        assert aside.execute("SELECT count(*) FROM versions WHERE card != ''").fetchone() == (3,)
    with house(tmp_path) as home:
        assert home.listed() == [fourth, third, second, SHIPPED]
    with closing(sqlite3.connect(tmp_path / "menny.sqlite3")) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_database_of_schema_3_is_copied_aside_and_gets_room_for_verdicts(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make(1, "always")
    change(tmp_path, *TO_SCHEMA_4, "DROP TABLE verdicts", "PRAGMA user_version = 3")
    with house(tmp_path) as home:
        assert home.retraining.note is None
        assert home.listed() == [made, SHIPPED]
        home.children.proof = home.children.proof.model_copy(update={"violations": 1})
        home.versions.prove(made)
        eventually(lambda: home.versions.get(made).proof is not None)
    with closing(sqlite3.connect(tmp_path / "menny.sqlite3.schema-3")) as aside:
        assert aside.execute("PRAGMA user_version").fetchone() == (3,)
    with house(tmp_path) as home:
        assert home.versions.get(made).proof.violations == 1


def test_a_migration_that_fails_leaves_the_older_database_as_it_was(tmp_path: Path) -> None:
    write_schema_1(tmp_path)
    change(tmp_path, "CREATE TABLE versions_2 (x)")  # half-way, it will find this
    with house(tmp_path) as home:
        assert home.engine.answers == SHIPPED
        assert "versions_2 already exists" in home.retraining.note
        with pytest.raises(StateUnavailableError, match="already exists"):
            home.store  # noqa: B018
    with closing(sqlite3.connect(tmp_path / "menny.sqlite3")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [row[1] for row in database.execute("PRAGMA table_info(jobs)")]
        assert "cancelling" not in columns
    change(tmp_path, "DROP TABLE versions_2")
    with house(tmp_path) as home:
        assert len(home.listed()) == 4


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE jobs SET config = 'x' WHERE id = 1", "job 1 .* config"),
        ("UPDATE jobs SET config = '{\"newer\": 1}' WHERE id = 1", "job 1 .* config"),
        ("UPDATE jobs SET created = 'x' WHERE id = 1", "job 1 .* created"),
        ("UPDATE jobs SET state = 'paused' WHERE id = 1", "job 1 .* 'paused'"),
        ("UPDATE jobs SET gate = '{}' WHERE id = 1", "job 1 .* gate"),
        ("UPDATE epochs SET report = '[' WHERE job = 1", "job 1 .* Epoch"),
        ("UPDATE versions SET created = 'x', job = NULL", None),
    ],
)
def test_one_row_that_makes_no_sense_is_named_and_costs_nothing_else(
    tmp_path: Path, statement: str, named: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with house(tmp_path) as home:
        made = [home.make(seed, "always") for seed in (1, 2)]
    change(tmp_path, statement)

    with house(tmp_path) as home:
        assert home.engine.answers == made[1]
        assert home.listed() == [*made[::-1], SHIPPED]
        if named is not None:
            with pytest.raises(UnreadableRowError, match=f"{named}"):
                home.store.get_job(1)
            assert [job.id for job in home.store.list_jobs(10)] == [2]
            assert "job 1 can't be read from the database" in caplog.text
        assert home.run_job(3).state == "succeeded"


def test_a_queued_job_that_makes_no_sense_fails_and_holds_up_no_other(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever("training")
        job_id = home.start_job()
        home.wait_for(job_id, lambda job: job.epoch == 1)
        change(
            tmp_path,
            "INSERT INTO jobs (state, recipe, config, promote, created, promoted, cancelling) "
            "VALUES ('queued', 'default', '{', 'never', '', 0, 0)",
        )
        home.store.cancel_job(job_id)
        home.wait_for(job_id, lambda job: job.state.has_ended)
        home.children.in_phase = lambda phase, check: None
        eventually(lambda: home.store.find_queued_job() is None)
        with pytest.raises(UnreadableRowError, match=f"job {job_id + 1} .* config"):
            home.store.get_job(job_id + 1)
        assert home.run_job(3).state == "succeeded"


def test_a_state_directory_belongs_to_one_service_though_its_lock_file_is_removed(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as first:
        made = first.make(1, "always")
        assert first.retraining.note is None
        (tmp_path / "lock").unlink()
        assert "lock was removed or replaced" in first.retraining.note
        first.children.in_phase = lambda phase, check: None
        second = Home(tmp_path)
        assert "another service uses the state directory" in second.retraining.note
        second.retraining.stop()
        assert first.run_job(2).state == "succeeded"
    with house(tmp_path) as third:
        assert third.engine.answers == made


def test_without_the_tables_it_should_have_a_database_stops_no_start(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.make(1)
    change(tmp_path, "PRAGMA foreign_keys = OFF", "DROP TABLE active")
    with house(tmp_path) as home:
        assert home.engine.answers == SHIPPED
        assert len(os.listdir(tmp_path / "versions")) == 2


def test_a_database_of_schema_2_gets_its_generation(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        version = home.make(1, "always")
    change(
        tmp_path,
        *TO_SCHEMA_4,
        "ALTER TABLE active DROP COLUMN announced",
        "ALTER TABLE active DROP COLUMN generation",
        "DROP TABLE verdicts",
        "PRAGMA user_version = 2",
    )
    with house(tmp_path) as home:
        assert (home.engine.answers, home.retraining.note) == (version, None)
        assert home.versions.announce().generation > 1_000_000_000
    assert (tmp_path / "menny.sqlite3.schema-2").exists()


@pytest.mark.parametrize("pragma", ["fullfsync", "checkpoint_fullfsync"])
def test_on_a_mac_what_is_committed_reaches_the_drive_and_not_its_cache_alone(
    tmp_path: Path, pragma: str
) -> None:
    with (
        closing(Database(tmp_path / "menny.sqlite3")) as database,
        database.transaction(write=False) as connection,
    ):
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == 1
