"""Promise 4: whatever happens during training, the model that serves keeps serving.

The children are real; what goes wrong in them is put there by a `sitecustomize` module, which
Python runs first, so that the service itself has no knob for it.
"""

import os
import resource
import signal
import sqlite3
import textwrap
import time
from pathlib import Path

import pytest

from tests.retraining import (
    LONG,
    TINY,
    admin_of,
    assert_no_child_is_left,
    assert_state_is_whole,
    children_of,
    has_ended,
    job_of,
    retrainable_service,
    run_job,
    start_job,
    wait_for,
)
from tests.service import Service
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version

IN_TRAINING = """'"task":"train"' in sys.orig_argv[-1]"""
IN_MEASURING = """'"task":"measure"' in sys.orig_argv[-1]"""
FOREVER = "import time; time.sleep(600)"
SLOW_SAVING = "import os, time; os.fsync = lambda descriptor: time.sleep(600)"


def sabotage(folder: Path, where: str, what: str) -> str:
    """A PYTHONPATH that makes the child processes `where` do `what` first."""
    code = f"import sys\nif {where}:\n{textwrap.indent(what, '    ')}\n"
    (folder / "sitecustomize.py").write_text(code)
    return str(folder)


def assert_serving_as_before(service: Service, state: Path) -> None:
    assert service.transform("MeM")["model_version"] == SHIPPED
    assert service.client.get("/health").status_code == 200
    assert_no_child_is_left(state, within_s=0)
    assert_state_is_whole(state)
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("where", "what", "reason"),
    [
        (
            IN_TRAINING,
            "print('{garbage'); " + FOREVER,
            "something that is not progress: '{garbage'",
        ),
        (IN_TRAINING, "sys.stdout.buffer.write(bytes(10**6)); " + FOREVER, "not progress"),
        (IN_TRAINING, "import os; os._exit(0)", "there is no such file"),
        (IN_TRAINING, "sys.exit('error: no luck')", "no luck"),
        (IN_TRAINING, "import os; os._exit(3)", "ended with exit status 3"),
        (IN_TRAINING, "import os; os.abort()", "the training process crashed (SIGABRT)"),
        (
            IN_TRAINING,
            "import training.optimizer as o; o._learning_rate = lambda config: 1e30",
            "the learning rate (0.005) is too high",
        ),
        (
            IN_TRAINING,
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))",
            "can't write",
        ),
        (
            IN_TRAINING,
            "import training.child.protocol as e\n"
            "e.SavedEvent = lambda sha256: e.PhaseEvent(phase='saving')",
            "wrote other weights than it said",
        ),
        (
            IN_MEASURING,
            "import os; os.write(1, b'{}'); os._exit(0)",
            "the measuring process wrote something that is not progress: '{}'",
        ),
        (IN_MEASURING, "import os; os._exit(0)", "the weights changed while they were measured"),
        (IN_MEASURING, "import os; os.kill(os.getpid(), 9)", "the measuring process was killed"),
    ],
    ids=lambda value: None if "sys.orig_argv" in value else value[:40],
)
def test_whatever_a_child_does_the_job_fails_with_a_reason_and_the_model_keeps_serving(
    tmp_path: Path, where: str, what: str, reason: str
) -> None:
    (tmp_path / "python").mkdir()
    path = sabotage(tmp_path / "python", where, what)
    state = tmp_path / "state"
    with retrainable_service(state, PYTHONPATH=path) as service, admin_of(service) as admin:
        job = run_job(admin, **TINY, promote="always")

        assert (job["state"], job["promoted"], job["version"]) == ("failed", False, None)
        assert reason in str(job["reason"])
        assert_serving_as_before(service, state)


@pytest.mark.parametrize(
    ("phase", "where", "what"),
    [
        ("starting", IN_TRAINING, FOREVER),
        ("training", IN_TRAINING, "pass"),
        ("saving", IN_TRAINING, SLOW_SAVING),
        ("checking", IN_MEASURING, FOREVER),
    ],
)
def test_a_job_can_be_cancelled_in_each_phase_within_two_seconds(
    tmp_path: Path, phase: str, where: str, what: str
) -> None:
    (tmp_path / "python").mkdir()
    path = sabotage(tmp_path / "python", where, what)
    state = tmp_path / "state"
    fields = LONG if phase == "training" else TINY
    with retrainable_service(state, PYTHONPATH=path) as service, admin_of(service) as admin:
        job_id = start_job(admin, **fields, promote="always")
        wait_for(admin, job_id, lambda job: job["phase"] == phase and bool(children_of(state)))

        began = time.monotonic()
        job = admin.delete(f"/train/{job_id}").json()

        assert time.monotonic() - began < 2
        assert (job["state"], job["reason"]) == ("cancelled", "it was cancelled")
        assert_serving_as_before(service, state)


def test_a_killed_training_process_fails_its_job_and_the_model_keeps_serving(
    tmp_path: Path,
) -> None:
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        job_id = start_job(admin, **LONG)
        wait_for(admin, job_id, lambda job: job["epoch"] != 0)
        (child,) = children_of(tmp_path)
        os.kill(child, signal.SIGKILL)

        job = wait_for(admin, job_id, has_ended)

        assert job["state"] == "failed"
        assert "was killed (SIGKILL): perhaps memory ran out" in str(job["reason"])
        assert_serving_as_before(service, tmp_path)
        assert run_job(admin, **TINY)["state"] == "succeeded"  # and the next one can run


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    with (
        retrainable_service(tmp_path, MENNY_TRAINING_TIMEOUT_S="1.5") as service,
        admin_of(service) as admin,
    ):
        job = run_job(admin, **LONG)

        assert (job["state"], job["reason"]) == ("failed", "it took longer than 2 s")
        assert_serving_as_before(service, tmp_path)


def test_a_disk_that_is_full_when_the_version_is_kept_leaves_the_active_model_untouched(
    tmp_path: Path,
) -> None:
    def limit() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, most))  # the weights have 2 MB

    (tmp_path / "python").mkdir()
    # The training process alone has room; it inherits the soft limit, and may raise that.
    path = sabotage(
        tmp_path / "python",
        IN_TRAINING,
        "from resource import *; most = getrlimit(RLIMIT_FSIZE)[1]\n"
        "setrlimit(RLIMIT_FSIZE, (most, most))",
    )
    state = tmp_path / "state"
    with (
        retrainable_service(state, PYTHONPATH=path, before_exec=limit) as service,
        admin_of(service) as admin,
    ):
        job = run_job(admin, **TINY, promote="always")

        assert (job["state"], job["promoted"]) == ("failed", False)
        assert "can't write" in str(job["reason"])
        assert_serving_as_before(service, state)


def test_a_database_that_is_locked_for_a_while_costs_no_request(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        job_id = start_job(admin, **LONG)
        wait_for(admin, job_id, lambda job: job["epoch"] != 0)
        database = sqlite3.connect(tmp_path / "menny.sqlite3", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        try:
            for _ in range(3):  # each waits for two seconds, as the job does
                refused = admin.post("/models/shipped/activate")
                assert refused.status_code == 503
                assert "database is locked" in refused.json()["detail"]
            assert service.transform("MeM")["model_version"] == SHIPPED
        finally:
            database.execute("ROLLBACK")
            database.close()

        job = wait_for(admin, job_id, has_ended)
        assert job["state"] == "failed"
        assert "database is locked" in str(job["reason"])
        assert_serving_as_before(service, tmp_path)
        assert job_of(admin, job_id)["ended"] is not None
