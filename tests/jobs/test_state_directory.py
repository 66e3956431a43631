"""Whatever is wrong with the state directory, /transform answers with the shipped weights."""

import ctypes
import logging
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.errors import StateUnavailableError
from app.settings import Settings, format_validation_error
from tests.in_process import in_process
from tests.jobs.house import SHIPPED, house, wait_forever
from tests.retraining import ADMIN, TOKEN, assert_state_is_whole, retrainable_service
from tests.waiting import eventually


def _newer_schema(state: Path) -> None:
    state.mkdir()
    with sqlite3.connect(state / "menny.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def _no_database(state: Path) -> None:
    state.mkdir()
    (state / "menny.sqlite3").write_bytes(b"not a database at all" * 100)


def _a_file(state: Path) -> None:
    state.write_text("not a directory")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (_newer_schema, "has schema 99, and this Menny knows schema"),
        (_no_database, "file is not a database; move it away"),
        (_a_file, "make it a writable directory"),
    ],
)
def test_a_state_directory_that_cannot_be_used_is_said_at_start_and_menny_still_answers(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = tmp_path / "state"
    prepare(state)
    with in_process(state_dir=state, admin_token=TOKEN) as menny:
        _assert_only_retraining_is_unavailable(menny.client, reason)
    assert caplog.text.count(reason) == 1


def _obey_permissions() -> None:
    """Root may write anywhere, unless it is without that capability."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def test_a_state_directory_that_is_read_only_is_said_and_menny_still_answers(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o500)
    with retrainable_service(state, before_exec=_obey_permissions) as service:
        _assert_only_retraining_is_unavailable(
            service.client, "Permission denied; make it a writable directory"
        )
        assert "Traceback" not in service.log
        assert service.stop() == 0


def test_a_full_disk_is_said_at_start_and_menny_still_answers(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with in_process(state_dir=tmp_path / "state", admin_token=TOKEN) as menny:
            _assert_only_retraining_is_unavailable(menny.client, "make room on the disk")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_locked_database_is_said_at_start_and_menny_still_answers(tmp_path: Path) -> None:
    with house(tmp_path):
        pass
    database = sqlite3.connect(tmp_path / "menny.sqlite3", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        with in_process(state_dir=tmp_path, admin_token=TOKEN) as menny:
            _assert_only_retraining_is_unavailable(
                menny.client, "another program holds it: end that"
            )
    finally:
        database.close()


def test_a_state_directory_belongs_to_one_service_at_a_time(tmp_path: Path) -> None:
    with (
        house(tmp_path) as first,
        in_process(state_dir=tmp_path, admin_token=TOKEN) as second,
    ):
        _assert_only_retraining_is_unavailable(
            second.client, "another service uses the state directory"
        )
        assert first.run_job().state == "succeeded"


def test_without_a_place_for_a_token_nobody_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    with in_process(state_dir=tmp_path / "state") as menny:
        response = menny.client.get("/train", headers={"Authorization": "Bearer any"})
        assert response.status_code == 503
        assert "the admin token in" in response.json()["detail"]
        assert menny.transform("MeM")["model_version"] == SHIPPED


def test_a_token_that_is_too_short_is_refused_in_a_sentence_without_it() -> None:
    with pytest.raises(ValidationError) as refusal:
        Settings(admin_token="hunter2")  # noqa: S106 - it guards nothing
    sentence = format_validation_error(refusal.value)
    assert "MENNY_ADMIN_TOKEN: " in sentence
    assert "hunter2" not in sentence


def test_a_state_directory_that_is_taken_away_costs_no_answer_and_works_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    with house(state) as home:
        home.children.in_phase = wait_forever("training")
        job_id = home.start_job()
        home.wait_for(job_id, lambda job: bool(job.epoch))
        state.rename(elsewhere)
        for look in (
            lambda: home.store.list_jobs(1),
            lambda: home.store.get_job(1),
            home.versions.list_all,
        ):
            with pytest.raises(StateUnavailableError, match="running: put it back"):
                look()
        home.retraining.reload()
        assert (home.engine.answers, home.engine.fault) == (SHIPPED, None)
        eventually(lambda: "failed, but the database" in caplog.text)
        assert not state.exists()  # nothing is written where nobody looks for it

        home.children.in_phase = lambda phase, check: None
        elsewhere.rename(state)
        assert home.wait_for(job_id, lambda job: job.state.has_ended).state == "failed"
        assert home.run_job().state == "succeeded"
        assert caplog.text.count("failed, but the database") == 1  # said once
    assert_state_is_whole(state)


def test_after_a_state_directory_was_removed_for_good_a_restart_begins_with_a_new_one(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with house(state) as home:
        made = home.make(1, "always")
        shutil.rmtree(state)
        assert home.engine.answers == made
        with pytest.raises(StateUnavailableError):
            home.start_job()
    with house(state) as home:
        assert home.store.list_jobs(9) == []
        assert home.engine.answers == SHIPPED
        assert home.run_job().state == "succeeded"
    assert_state_is_whole(state)


def _assert_only_retraining_is_unavailable(client: httpx.Client, reason: str) -> None:
    answer = client.post("/transform", json={"query": "MeM"})
    assert answer.json()["model_version"] == SHIPPED
    health = client.get("/health")
    assert health.status_code == 200
    assert reason in health.json()["note"]
    for method, path in [
        ("GET", "/train"),
        ("POST", "/train"),
        ("GET", "/train/1/events"),
        ("GET", "/models"),
        ("POST", "/models/shipped/activate"),
    ]:
        response = client.request(method, path, headers=ADMIN)
        assert response.status_code == 503
        assert reason in response.json()["detail"]
