import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.doctor.finding import Status
from app.doctor.storage import (
    check_database,
    check_fsync,
    check_lock,
    check_overlooked,
    check_space,
    check_state_dir,
    free_bytes,
)

ME = os.geteuid()


def test_a_state_directory_that_is_not_there_yet_is_ok(tmp_path: Path) -> None:
    assert check_state_dir(tmp_path / "state", ME).status is Status.OK
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_a_state_directory_of_ones_own_is_ok(tmp_path: Path) -> None:
    assert check_state_dir(tmp_path, ME).status is Status.OK


def test_a_state_directory_of_somebody_else_fails(tmp_path: Path) -> None:
    finding = check_state_dir(tmp_path, ME + 1)
    assert (finding.status, "chown" in (finding.remedy or "")) == (Status.FAIL, True)


def test_a_file_in_place_of_the_state_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert check_state_dir(tmp_path / "state", ME).status is Status.FAIL


def test_a_state_directory_that_others_may_write_is_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    finding = check_state_dir(tmp_path, ME)
    assert (finding.status, "chmod go-w" in (finding.remedy or "")) == (Status.WARN, True)


def test_a_token_that_others_may_read_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "admin_token").touch(0o644)
    (tmp_path / "admin_token").chmod(0o644)
    finding = check_state_dir(tmp_path, ME)
    assert (finding.status, "chmod 600" in (finding.remedy or "")) == (Status.WARN, True)


def test_a_state_of_old_in_the_current_folder_is_mentioned() -> None:
    assert check_overlooked(None).status is Status.OK
    finding = check_overlooked("/home/me/.menny is not used")
    assert (finding.status, "/home/me/.menny" in finding.says) == (Status.WARN, True)


@pytest.mark.parametrize(
    ("mebibytes", "status"), [(2000, Status.OK), (200, Status.WARN), (20, Status.FAIL)]
)
def test_little_space_is_warned_of_and_hardly_any_fails(mebibytes: int, status: Status) -> None:
    assert check_space(mebibytes * 2**20, Path("/state")).status is status


def test_fsync_reaches_the_drive_or_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_fsync(tmp_path).status is Status.OK

    def refuse(_: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.fsync", refuse)
    assert check_fsync(tmp_path).status is Status.WARN


def test_on_a_mac_a_volume_that_cannot_flush_its_drive_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)  # which Linux doesn't know
    assert check_fsync(tmp_path).status is Status.WARN


def test_it_is_said_whether_a_service_uses_the_state_directory(tmp_path: Path) -> None:
    assert "no service" in check_lock(tmp_path).says
    with (tmp_path / "lock").open("w") as lock:
        assert "no service" in check_lock(tmp_path).says
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "a service uses it" in check_lock(tmp_path).says


def test_a_damaged_database_fails(tmp_path: Path) -> None:
    assert check_database(tmp_path).status is Status.OK
    path = tmp_path / "menny.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table jobs (id)")
        database.commit()
    assert check_database(tmp_path).status is Status.OK
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    assert check_database(tmp_path).status is Status.FAIL
    path.write_bytes(b"no database at all")
    finding = check_database(tmp_path)
    assert (finding.status, ".damaged" in (finding.remedy or "")) == (Status.FAIL, True)
