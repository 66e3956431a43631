"""Jobs and versions over HTTP: a real service and real children, among strange modules."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from tests.jobs.house import house
from tests.retraining import (
    LONG,
    TINY,
    admin_of,
    assert_no_child_is_left,
    assert_state_is_whole,
    children_of,
    has_ended,
    put_versions,
    retrainable_service,
    start_job,
    wait_for,
)
from tests.service import Service
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose every module leaves a trace if it is imported."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("app", "training", "numpy", "mlx", "json"):
        (folder / name).mkdir()
        for file in ("__init__.py", "__main__.py"):
            (folder / name / file).write_text(f"open({str(folder / 'imported')!r}, 'a').write('x')")
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def trainer(state: Path, planted: Path) -> Iterator[Service]:
    with retrainable_service(state, cwd=planted) as service:
        yield service


@pytest.fixture
def admin(trainer: Service) -> Iterator[httpx.Client]:
    """A client of a service that serves the shipped weights and runs no job."""
    with admin_of(trainer) as client:
        yield client
        for job in client.get("/train").json()["jobs"]:
            if not has_ended(job):
                client.delete(f"/train/{job['id']}")
        assert client.post("/models/shipped/activate").status_code == 200


@dataclass(frozen=True)
class Watched:
    """A job that has ended, and what somebody who watched it got: names, ids, seconds between."""

    job: dict[str, Any]
    names: list[str]
    ids: list[str]
    gaps: list[float]


@pytest.fixture(scope="module")
def watched(trainer: Service) -> Watched:
    with admin_of(trainer) as admin:
        fields = TINY | {"num_epochs": 12, "seed": 1, "promote": "always"}
        response = admin.post("/train", json=fields)
        assert response.status_code == 202
        job_id = response.json()["id"]
        assert response.headers["location"] == f"/train/{job_id}"
        assert response.json()["state"] == "queued"
        events = _watch(admin, job_id)
        return Watched(wait_for(admin, job_id, has_ended), *events)


def test_a_job_trains_in_the_background_and_its_version_answers(
    watched: Watched, trainer: Service, state: Path, planted: Path
) -> None:
    job, name = watched.job, watched.job["version"]
    assert (job["state"], job["promoted"], job["progress"]) == ("succeeded", True, 1.0)
    assert name in job["reason"]
    assert trainer.transform("MeM")["model_version"] == name
    health = trainer.client.get("/health").json()
    assert health["rule_accuracy"] == job["gate"]["candidate"]["rule_accuracy"]
    assert_state_is_whole(state)
    assert not (planted / "imported").exists()  # see the next test
    with admin_of(trainer) as admin:
        version = admin.get(f"/models/{name}").json()
        assert version["active"]
        assert version["job"] == job["id"]
        assert version["card"]["parent"] == SHIPPED
        assert version["card"]["metrics"] == job["gate"]["candidate"]
        assert job["gate"]["candidate"]["num_queries"] == 100

        refused = admin.delete(f"/models/{name}")
        assert (refused.status_code, "is active" in refused.json()["detail"]) == (409, True)
        assert admin.post(f"/models/{SHIPPED}/activate").json()["active"]
        assert trainer.transform("MeM")["model_version"] == SHIPPED
        assert admin.delete("/models/shipped").status_code == 409
        assert admin.delete(f"/models/{name}").status_code == 204
        assert admin.get(f"/models/{name}").status_code == 404
        assert admin.post("/models/..%2fsecret/activate").status_code in {404, 422}


def test_nothing_that_lies_where_the_service_was_started_is_imported(
    watched: Watched, planted: Path
) -> None:
    assert watched.job["state"] == "succeeded"  # so that both of its processes have run
    assert not (planted / "imported").exists()


def test_a_cancelled_job_ends_within_two_seconds_and_its_child_with_it(
    admin: httpx.Client, state: Path
) -> None:
    at_once = threading.Barrier(2)
    responses: list[httpx.Response] = []

    def post() -> None:
        at_once.wait()
        responses.append(admin.post("/train", json=LONG))

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted, refused = sorted(responses, key=lambda response: response.status_code)
    assert (accepted.status_code, refused.status_code) == (202, 409)
    job_id = accepted.json()["id"]
    assert f"job {job_id} is running" in refused.json()["detail"]

    job = wait_for(admin, job_id, lambda job: job["epoch"] != 0)
    assert (job["state"], job["phase"], job["reason"]) == ("running", "training", None)
    assert job["progress"] == int(str(job["epoch"])) / 1000
    assert float(str(job["eta_seconds"])) > 0
    assert children_of(state)

    began = time.monotonic()
    response = admin.delete(f"/train/{job_id}")
    assert time.monotonic() - began < 10
    assert response.status_code in {200, 202}
    job = wait_for(admin, job_id, has_ended)
    assert (job["state"], job["reason"]) == ("cancelled", "it was cancelled")
    assert_no_child_is_left(state)
    assert_state_is_whole(state)
    again = admin.delete(f"/train/{job_id}")
    assert again.status_code == 409
    assert "has ended already: cancelled" in again.json()["detail"]


def test_events_come_as_they_happen_and_a_client_that_reconnects_gets_what_it_missed(
    admin: httpx.Client, watched: Watched
) -> None:
    assert watched.ids == [str(epoch) for epoch in range(1, 13)] + ["end"]
    assert watched.names[-1] == "end"
    assert "progress" in watched.names
    assert max(watched.gaps) < 10  # one second, and some for a machine with other things to do

    job_id = watched.job["id"]
    late_names, late_ids, _ = _watch(admin, job_id)
    assert (late_names, late_ids) == (["epoch"] * 12 + ["end"], watched.ids)
    _, rest, _ = _watch(admin, job_id, last_event_id="9")
    assert rest == ["10", "11", "12", "end"]
    finished = admin.get(f"/train/{job_id}/events", headers={"Last-Event-ID": "end"})
    assert finished.status_code == 204
    assert admin.get("/train/999999/events").status_code == 404


def _watch(
    admin: httpx.Client, job_id: int, last_event_id: str | None = None
) -> tuple[list[str], list[str], list[float]]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    names, ids, times = [], [], [time.monotonic()]
    with connect_sse(admin, "GET", f"/train/{job_id}/events", headers=headers) as source:
        for event in source.iter_sse():
            times.append(time.monotonic())
            names.append(event.event)
            data = json.loads(event.data)
            if event.event == "epoch":
                ids.append(str(data["epoch"]))
            elif event.event == "end":
                ids.append(event.id)
                assert data["state"] == "succeeded"
    return names, ids, [after - before for before, after in pairwise(times)]


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        ({"num_samples": 10**9}, "num_samples: input should be less than or equal to 100000"),
        ({"num_epochs": 10**6}, "num_epochs: input should be less than or equal to 1000"),
        ({"batch_size": 10**6}, "batch_size: input should be less than or equal to 1024"),
        ({"learning_rate": 2}, "learning_rate: input should be less than or equal to 1"),
        ({"learning_rate": 0}, "learning_rate: input should be greater than 0"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0"),
        ({"num_samples": 100_000, "num_epochs": 1000}, "more than 2,000,000"),
        ({"num_samples": 2000, "num_epochs": 1000, "batch_size": 1}, "more than 20,000"),
        ({"num_samples": 5, "batch_size": 64}, "does not fill one batch of 64"),
        ({"recipe": "secret"}, "recipe: input should be 'default' or 'book'"),
        ({"promote": "perhaps"}, "promote: input should be 'if_better', 'never' or 'always'"),
        ({"num_layers": 7}, "there is no field 'num_layers'"),
    ],
)
def test_a_bad_job_gets_an_error_that_says_what_would_be_right(
    admin: httpx.Client, fields: dict[str, object], bound: str
) -> None:
    response = admin.post("/train", json=fields)

    assert response.status_code == 422
    assert bound in response.json()["detail"]


def test_a_killed_training_process_fails_its_job_and_the_model_keeps_serving(
    admin: httpx.Client, trainer: Service, state: Path
) -> None:
    job_id = start_job(admin, **LONG)
    wait_for(admin, job_id, lambda job: job["epoch"] != 0)
    (child,) = children_of(state)
    os.kill(child, signal.SIGKILL)

    job = wait_for(admin, job_id, has_ended)

    assert job["state"] == "failed"
    assert "was killed (SIGKILL): perhaps memory ran out" in str(job["reason"])
    assert trainer.transform("MeM")["model_version"] == SHIPPED
    assert_state_is_whole(state)
    assert "Traceback" not in trainer.log


def test_jobs_are_listed_newest_first_a_page_at_a_time(admin: httpx.Client) -> None:
    ids = [job["id"] for job in admin.get("/train").json()["jobs"]]
    assert len(ids) >= 3  # those of the tests before
    first = admin.get("/train", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == ids[:2]
    second = admin.get(first["next"]).json()
    assert second["jobs"][0]["id"] == ids[2]
    assert admin.get("/train/999999").status_code == 404
    assert admin.get(f"/train/{2**64}").status_code == 422


def test_a_database_that_is_locked_for_a_while_costs_no_request(
    admin: httpx.Client, watched: Watched, trainer: Service, state: Path
) -> None:
    """What becomes of a job then is in test_jobs.py."""
    database = sqlite3.connect(state / "menny.sqlite3", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        for method, path in [
            ("POST", "/models/shipped/activate"),
            ("DELETE", f"/train/{watched.job['id']}"),
            ("POST", "/train"),
        ]:
            refused = admin.request(method, path)
            assert refused.status_code == 503
            assert "database is locked" in refused.json()["detail"]
        assert trainer.transform("MeM")["model_version"] == SHIPPED
    finally:
        database.execute("ROLLBACK")
        database.close()
    assert admin.get("/train").status_code == 200


def test_a_restart_finds_the_active_version_and_interrupted_jobs_again(tmp_path: Path) -> None:
    (active,) = put_versions(tmp_path, 1)
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        assert admin.post(f"/models/{active}/activate").status_code == 200
        job_id = start_job(admin, **LONG)
        wait_for(admin, job_id, lambda job: job["epoch"] != 0)
        with connect_sse(admin, "GET", f"/train/{job_id}/events") as source:
            next(source.iter_sse())
            assert service.stop() == 0  # though somebody is watching
    assert_no_child_is_left(tmp_path, within_s=0)

    with house(tmp_path) as home:
        assert home.engine.answers == active
        job = home.store.get_job(job_id)
        assert (job.state, job.reason) == ("interrupted", "the service was stopped")


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_sigterm_after_sighups_ends_the_service(tmp_path: Path, rounds: int) -> None:
    took = []
    for number in range(rounds):
        with retrainable_service(tmp_path) as service:
            assert service.client.get("/health").status_code == 200
            for _ in range(3):
                service.process.send_signal(signal.SIGHUP)
                time.sleep(0.003 * number)
            began = time.monotonic()
            assert service.stop(timeout=30) == 0  # within 5 s on a machine at rest
            took.append(time.monotonic() - began)
            assert "Traceback" not in service.log
    print(f"{rounds} ends took {min(took):.2f} to {max(took):.2f} s")
