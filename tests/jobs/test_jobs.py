"""Jobs from the queue to their end, with scripted children: what a person can ask and see."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConflictError, JobRunningError, NotFoundError, StateUnavailableError
from app.jobs.runner import ChildError
from tests.jobs.house import SHIPPED, Home, house, wait_forever

PHASES = ["starting", "training", "saving", "checking"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_is_cancelled_in_each_phase(tmp_path: Path, phase: str) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever(phase)
        job_id = home.start_job(promote="always")
        home.wait_for(job_id, lambda job: job.phase == phase)
        home.store.cancel_job(job_id)
        job = home.wait_for(job_id, lambda job: job.state.has_ended)
        assert (job.state, job.reason) == ("cancelled", "it was cancelled")
        _assert_as_before(home)


@pytest.mark.parametrize("phase", PHASES)
def test_the_end_of_the_service_interrupts_a_job_in_each_phase(tmp_path: Path, phase: str) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever(phase)
        job_id = home.start_job(promote="always")
        home.wait_for(job_id, lambda job: job.phase == phase)
        began = time.monotonic()
        home.retraining.stop()
        assert time.monotonic() - began < 4
    with house(tmp_path) as home:
        job = home.store.get_job(job_id)
        assert (job.state, job.reason) == ("interrupted", "the service was stopped")
        _assert_as_before(home)


def test_the_end_of_the_service_interrupts_a_job_that_is_queued(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever("starting")
        job_id = home.start_job(promote="always")
    with house(tmp_path) as home:
        assert home.store.get_job(job_id).state == "interrupted"
        home.retraining.stop_jobs()
        left = home.start_job(promote="always")  # as when nothing has the time to call it so
    with house(tmp_path) as home:
        job = home.store.get_job(left)
        assert (job.state, job.reason) == (
            "interrupted",
            "the service ended while the job was running",
        )
        _assert_as_before(home)


@pytest.mark.parametrize("step", ["prepare", "install"])
def test_the_end_of_the_service_while_a_version_is_put_in_waits_for_it(
    tmp_path: Path, step: str
) -> None:
    with house(tmp_path) as home:
        entered, go_on = _pause(home, step)
        job_id = home.start_job(promote="always")
        assert entered.wait(60)
        assert home.store.get_job(job_id).phase == "promoting"
        stopping = threading.Thread(target=home.retraining.stop)
        stopping.start()
        go_on.set()
        stopping.join(60)
        assert not stopping.is_alive()
    with house(tmp_path) as home:
        job = home.store.get_job(job_id)
        assert (job.state, job.promoted) == ("succeeded", True)
        assert (home.engine.answers, home.active()) == (job.version, [job.version])


@pytest.mark.parametrize(("step", "is_in"), [("prepare", False), ("install", True)])
def test_the_end_of_the_service_does_not_wait_for_ever_for_a_version_that_is_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_in: bool
) -> None:
    monkeypatch.setattr("app.jobs.manager.STOP_S", 0.1)
    with house(tmp_path) as home:
        entered, go_on = _pause(home, step)
        job_id = home.start_job(promote="always")
        assert entered.wait(60)
        home.retraining.stop()  # returns, though the engine does not
        with house(tmp_path) as after:
            job = after.store.get_job(job_id)
            assert (job.state, job.promoted) == ("interrupted", is_in)
            assert after.engine.answers == (job.version if is_in else SHIPPED)
            assert after.active() == [after.engine.answers]
        go_on.set()


def _pause(home: Home, step: str) -> tuple[threading.Event, threading.Event]:
    """Have the engine wait in a step: it says that it has come there, and is told to go on."""
    entered, go_on = threading.Event(), threading.Event()
    real = getattr(home.engine, step)

    def wait(*arguments: Any) -> Any:
        entered.set()
        assert go_on.wait(60)
        return real(*arguments)

    setattr(home.engine, step, wait)
    return entered, go_on


def test_a_job_whose_version_is_being_put_in_is_not_cancelled_any_more(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        entered, go_on = _pause(home, "install")
        job_id = home.start_job(promote="always")
        assert entered.wait(60)
        with pytest.raises(ConflictError, match="its version is being activated"):
            home.store.cancel_job(job_id)
        go_on.set()
        job = home.wait_for(job_id, lambda job: job.state.has_ended)
        assert (job.state, job.promoted, home.engine.answers) == ("succeeded", True, job.version)


def test_a_job_that_has_ended_or_never_was_is_not_cancelled(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        job = home.run_job()
        with pytest.raises(ConflictError, match="has ended already: succeeded"):
            home.store.cancel_job(job.id)
        with pytest.raises(NotFoundError):
            home.store.cancel_job(999)


def test_a_queued_job_is_cancelled_before_it_is_taken(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.retraining.stop_jobs()
        job_id = home.start_job()
        home.store.cancel_job(job_id)
        assert home.store.get_job(job_id).state == "cancelled"
        assert home.store.find_queued_job() is None


def test_there_is_one_job_at_a_time(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever("training")
        job_id = home.start_job()
        for _ in range(2):
            with pytest.raises(JobRunningError, match=f"job {job_id} is running"):
                home.start_job()
            home.wait_for(job_id, lambda job: job.epoch == 1)


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    with house(tmp_path, training_timeout_s=0.3) as home:
        home.children.in_phase = wait_forever("training")
        job = home.run_job()
        assert (job.state, job.reason) == ("failed", "it took longer than 0 s")
        _assert_as_before(home)


def test_whatever_goes_wrong_in_a_job_it_fails_with_a_reason_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    class OddError(Exception):
        pass

    faults = {
        ChildError("the training process was killed"): "the training process was killed",
        StateUnavailableError(f"{tmp_path}/menny.sqlite3 is full"): "menny.sqlite3 is full",
        OSError(28, "No space left", f"{tmp_path}/staging"): "staging: No space left",
        OSError(24, "Too many open files"): "Too many open files",
        OddError("odd"): "a fault of the service; its log has more",
    }
    with house(tmp_path) as home:
        for fault, reason in faults.items():

            def fail(phase: str, check: object, fault: Exception = fault) -> None:
                if phase == "training":
                    raise fault

            home.children.in_phase = fail
            job = home.run_job(promote="always")
            assert (job.state, job.promoted) == ("failed", False)
            assert reason in job.reason
            assert str(tmp_path) not in job.reason
            assert "None" not in job.reason
            _assert_as_before(home)
        home.children.in_phase = lambda phase, check: None
        assert home.run_job().state == "succeeded"


def test_a_service_without_a_thread_for_jobs_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        home = Home(tmp_path)
    assert home.engine.answers == SHIPPED
    assert "jobs can't be run: can't start new thread" in home.retraining.note
    with pytest.raises(StateUnavailableError, match="can't start new thread"):
        home.retraining.store  # noqa: B018
    home.retraining.stop()


def test_a_locked_database_fails_the_job_and_its_end_is_written_once_it_is_free(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = lambda phase, check: (check(), time.sleep(0.02))
        job_id = home.start_job(num_epochs=1000)
        home.wait_for(job_id, lambda job: job.epoch > 0)
        blocker = sqlite3.connect(tmp_path / "menny.sqlite3", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StateUnavailableError, match="locked; another program holds it"):
            home.store.cancel_job(job_id)
        assert time.monotonic() - began < 10
        time.sleep(0.5)
        assert home.store.get_job(job_id).state == "running"  # readers don't wait
        blocker.close()
        job = home.wait_for(job_id, lambda job: job.state.has_ended)
        assert (job.state, "database is locked" in job.reason) == ("failed", True)
        _assert_as_before(home)


def test_prometheus_is_told_of_jobs_loss_and_progress(tmp_path: Path) -> None:
    with house(tmp_path) as home:

        def value(name: str, **labels: str) -> float | None:
            return home.registry.get_sample_value(f"menny_training_{name}", labels)

        assert value("jobs_total", state="succeeded") == 0
        job_id = home.start_job(num_epochs=2)
        home.wait_for(job_id, lambda job: job.state.has_ended)
        home.retraining.stop_jobs()
        assert value("jobs_total", state="succeeded") == 1
        assert value("jobs_total", state="failed") == 0
        assert (value("progress"), value("loss")) == (1, 1.7)


def test_a_watcher_gets_each_epoch_once_and_the_job_as_it_is(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.children.in_phase = wait_forever("saving")
        job_id = home.start_job(num_epochs=5)
        home.wait_for(job_id, lambda job: job.phase == "saving")
        for after in (0, 3, 5, 99):
            job, epochs = home.store.watch_job(job_id, after)
            assert [epoch.epoch for epoch in epochs] == list(range(after + 1, 6))
            assert (job.id, job.epoch, job.progress, job.loss) == (job_id, 5, 1.0, 1.7)
        with pytest.raises(NotFoundError):
            home.store.watch_job(999, 0)


def _assert_as_before(home: Home) -> None:
    assert home.engine.answers == SHIPPED
    assert home.listed() == [SHIPPED]
    assert not list((home.state / "versions").iterdir())
    deadline = time.monotonic() + 60
    while list((home.state / "staging").glob("*")):
        assert time.monotonic() < deadline
