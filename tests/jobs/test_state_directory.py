"""Whatever is wrong with the state directory, /transform answers with the shipped weights."""

import ctypes
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.retraining import admin_of, retrainable_service
from tests.service import Service, clean_environment, running_service
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version


def _newer_schema(state: Path) -> None:
    state.mkdir()
    with sqlite3.connect(state / "menny.sqlite3") as database:
        database.execute("PRAGMA user_version = 3")
    database.close()


def _no_database(state: Path) -> None:
    state.mkdir()
    (state / "menny.sqlite3").write_bytes(b"not a database at all" * 100)


def _read_only(state: Path) -> None:
    state.mkdir()
    state.chmod(0o500)


def _a_file(state: Path) -> None:
    state.write_text("not a directory")


def _nothing(state: Path) -> None:
    pass


def _obey_permissions() -> None:
    """Root may write anywhere, unless it is without that capability."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def _full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    ("prepare", "before_exec", "reason"),
    [
        (_newer_schema, None, "has schema 3, and this Menny knows schema 2"),
        (_no_database, None, "file is not a database; move it away"),
        (_read_only, _obey_permissions, "Permission denied; make it a writable directory"),
        (_a_file, None, "make it a writable directory"),
        (_nothing, _full_disk, "make room on the disk"),
    ],
)
def test_a_state_directory_that_cannot_be_used_is_said_at_start_and_menny_still_answers(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    before_exec: Callable[[], None] | None,
    reason: str,
) -> None:
    state = tmp_path / "state"
    prepare(state)
    with retrainable_service(state, before_exec=before_exec) as service:
        _assert_only_retraining_is_unavailable(service, reason)


def test_a_locked_database_is_said_at_start_and_menny_still_answers(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as service:
        service.stop()
    database = sqlite3.connect(tmp_path / "menny.sqlite3", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        with retrainable_service(tmp_path) as service:
            _assert_only_retraining_is_unavailable(service, "another program holds it: end that")
    finally:
        database.close()


def test_a_state_directory_belongs_to_one_service_at_a_time(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as first, retrainable_service(tmp_path) as second:
        _assert_only_retraining_is_unavailable(second, "another service uses the state directory")
        with admin_of(first) as admin:
            assert admin.get("/train").status_code == 200


def test_without_a_place_for_a_token_nobody_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    with running_service(MENNY_STATE_DIR=tmp_path / "state") as service:
        response = service.client.get("/train", headers={"Authorization": "Bearer any"})
        assert response.status_code == 503
        assert "the admin token in" in response.json()["detail"]
        assert service.transform("MeM")["model_version"] == SHIPPED


def test_a_token_that_is_too_short_is_refused_in_a_sentence() -> None:
    environment = clean_environment() | {"MENNY_ADMIN_TOKEN": "hunter2"}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "MENNY_ADMIN_TOKEN: " in done.stderr
    assert "hunter2" not in done.stderr


def _assert_only_retraining_is_unavailable(service: Service, reason: str) -> None:
    assert service.transform("MeM")["model_version"] == SHIPPED
    health = service.client.get("/health")
    assert health.status_code == 200
    assert reason in health.json()["note"]
    with admin_of(service) as admin:
        for method, path in [
            ("GET", "/train"),
            ("POST", "/train"),
            ("GET", "/train/1/events"),
            ("GET", "/models"),
            ("POST", "/models/shipped/activate"),
        ]:
            response = admin.request(method, path)
            assert response.status_code == 503
            assert reason in response.json()["detail"]
    assert service.log.count(reason) == 1
    assert "Traceback" not in service.log
    assert service.stop() in {0, -15}
