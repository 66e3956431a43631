"""Jobs from the request to their end, on a real service with real child processes."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

from tests.retraining import (
    LONG,
    TINY,
    admin_of,
    assert_no_child_is_left,
    assert_state_is_whole,
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


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def trainer(state: Path) -> Iterator[Service]:
    with retrainable_service(state) as service:
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


def test_a_job_trains_in_the_background_and_its_version_answers(
    admin: httpx.Client, trainer: Service, state: Path
) -> None:
    response = admin.post("/train", json=TINY | {"seed": 1, "promote": "always"})
    assert response.status_code == 202
    job_id = response.json()["id"]
    assert response.headers["location"] == f"/train/{job_id}"
    assert response.json()["state"] == "queued"

    job = wait_for(admin, job_id, has_ended)

    assert (job["state"], job["promoted"], job["progress"]) == ("succeeded", True, 1.0)
    assert job["version"] in str(job["reason"])
    assert trainer.transform("MeM")["model_version"] == job["version"]
    version = admin.get(f"/models/{job['version']}").json()
    assert version["active"]
    assert version["job"] == job_id
    assert version["card"]["parent"] == SHIPPED
    assert version["card"]["metrics"] == job["gate"]["candidate"]
    assert job["gate"]["candidate"]["num_queries"] == 100
    assert_state_is_whole(state)


def test_a_version_that_fails_the_gate_is_kept_but_not_put_in(
    admin: httpx.Client, trainer: Service
) -> None:
    job = run_job(admin, **TINY, seed=2)

    assert (job["state"], job["promoted"]) == ("succeeded", False)
    assert "is kept, and not activated: its rule_accuracy is" in str(job["reason"])
    assert "and its excess_nll is" in str(job["reason"])
    assert not admin.get(f"/models/{job['version']}").json()["active"]
    assert trainer.transform("MeM")["model_version"] == SHIPPED


def test_a_version_of_a_job_that_is_never_to_promote_is_only_kept(
    admin: httpx.Client, trainer: Service
) -> None:
    job = run_job(admin, **TINY, seed=3, promote="never")

    assert (job["state"], job["promoted"]) == ("succeeded", False)
    assert "promote is never" in str(job["reason"])
    assert trainer.transform("MeM")["model_version"] == SHIPPED


def test_the_same_recipe_and_seed_make_the_same_version_again(
    admin: httpx.Client, state: Path
) -> None:
    first = run_job(admin, **TINY, seed=4, promote="never")
    second = run_job(admin, **TINY, seed=4, promote="always")

    assert first["version"] == second["version"]
    assert second["promoted"]
    versions = [version["version"] for version in admin.get("/models").json()["models"]]
    assert versions.count(str(first["version"])) == 1
    assert_state_is_whole(state)


def test_of_two_jobs_asked_for_at_once_one_runs_and_the_other_is_refused(
    admin: httpx.Client,
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
    assert f"job {accepted.json()['id']} is running" in refused.json()["detail"]


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


def test_a_cancelled_job_ends_within_two_seconds(admin: httpx.Client, state: Path) -> None:
    job_id = start_job(admin, **LONG)
    wait_for(admin, job_id, lambda job: job["epoch"] != 0)

    began = time.monotonic()
    response = admin.delete(f"/train/{job_id}")

    assert time.monotonic() - began < 2
    assert response.status_code == 200
    assert (response.json()["state"], response.json()["reason"]) == (
        "cancelled",
        "it was cancelled",
    )
    assert_no_child_is_left(state, within_s=0)
    assert_state_is_whole(state)
    again = admin.delete(f"/train/{job_id}")
    assert again.status_code == 409
    assert "has ended already: cancelled" in again.json()["detail"]


def test_events_come_every_second_and_a_client_that_reconnects_gets_what_it_missed(
    admin: httpx.Client,
) -> None:
    job_id = start_job(admin, **TINY | {"num_epochs": 12}, promote="never")
    names, ids, gaps = _watch(admin, job_id)

    assert ids == [str(epoch) for epoch in range(1, 13)] + ["end"]
    assert names[-1] == "end"
    assert "progress" in names
    assert max(gaps) < 2  # one second, and one for a machine with other things to do

    late_names, late_ids, _ = _watch(admin, job_id)
    assert (late_names, late_ids) == (["epoch"] * 12 + ["end"], ids)
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


def test_a_running_job_tells_how_far_it_is(admin: httpx.Client) -> None:
    job_id = start_job(admin, **LONG)
    job = wait_for(admin, job_id, lambda job: job["epoch"] != 0)

    assert (job["state"], job["phase"], job["reason"]) == ("running", "training", None)
    assert job["progress"] == int(str(job["epoch"])) / 1000
    assert float(str(job["loss"])) > 0
    assert float(str(job["eta_seconds"])) > 0
    assert job["validation"]["num_queries"] == 400


def test_jobs_are_listed_newest_first_a_page_at_a_time(admin: httpx.Client) -> None:
    ids = []
    for _ in range(3):
        ids.append(start_job(admin, **LONG))
        assert admin.delete(f"/train/{ids[-1]}").status_code == 200

    first = admin.get("/train", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == ids[:0:-1]
    second = admin.get(first["next"]).json()
    assert second["jobs"][0]["id"] == ids[0]
    assert admin.get("/train/999999").status_code == 404
    assert admin.get(f"/train/{2**64}").status_code == 422


def test_versions_roll_forward_and_back_without_a_restart(
    admin: httpx.Client, trainer: Service
) -> None:
    made = run_job(admin, **TINY, seed=5, promote="never")["version"]

    assert admin.post(f"/models/{made}/activate").json()["active"]
    assert trainer.transform("MeM")["model_version"] == made
    refused = admin.delete(f"/models/{made}")
    assert (refused.status_code, "is active" in refused.json()["detail"]) == (409, True)

    assert admin.post(f"/models/{SHIPPED}/activate").json()["active"]
    assert trainer.transform("MeM")["model_version"] == SHIPPED
    assert admin.delete("/models/shipped").status_code == 409
    assert admin.delete(f"/models/{made}").status_code == 204
    assert admin.get(f"/models/{made}").status_code == 404
    assert admin.post(f"/models/{made}/activate").status_code == 404
    assert admin.post("/models/..%2fsecret/activate").status_code in {404, 422}


def test_a_damaged_version_is_refused_and_the_old_one_keeps_serving(
    admin: httpx.Client, trainer: Service, state: Path
) -> None:
    made = run_job(admin, **TINY, seed=6, promote="never")["version"]
    path = state / "versions" / f"{made}.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    response = admin.post(f"/models/{made}/activate")

    assert response.status_code == 409
    assert f"{made}.npz" in response.json()["detail"]
    assert trainer.transform("MeM")["model_version"] == SHIPPED
    assert [m["version"] for m in admin.get("/models").json()["models"] if m["active"]] == [SHIPPED]
    path.write_bytes(whole)


def test_old_versions_are_pruned_but_never_the_active_one(tmp_path: Path) -> None:
    with (
        retrainable_service(tmp_path, MENNY_KEEP_VERSIONS="1") as service,
        admin_of(service) as admin,
    ):
        active = run_job(admin, **TINY, seed=1, promote="always")["version"]
        for seed in (2, 3):
            newest = run_job(admin, **TINY, seed=seed, promote="never")["version"]

        listed = [version["version"] for version in admin.get("/models").json()["models"]]
        assert listed == [newest, active, SHIPPED]
        assert_state_is_whole(tmp_path)


def test_a_restart_finds_the_active_version_and_interrupted_jobs_again(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        active = run_job(admin, **TINY, promote="always")["version"]
        job_id = start_job(admin, **LONG)
        wait_for(admin, job_id, lambda job: job["epoch"] != 0)
        with connect_sse(admin, "GET", f"/train/{job_id}/events") as source:
            next(source.iter_sse())
            began = time.monotonic()
            service.stop()
            assert time.monotonic() - began < 4  # though somebody was watching
    assert_no_child_is_left(tmp_path, within_s=0)

    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        assert service.transform("MeM")["model_version"] == active
        job = job_of(admin, job_id)
        assert (job["state"], job["reason"]) == ("interrupted", "the service was stopped")


def test_an_active_version_that_is_damaged_is_replaced_by_the_shipped_one(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        active = run_job(admin, **TINY, promote="always")["version"]
        service.stop()
    (tmp_path / "versions" / f"{active}.npz").write_bytes(b"not weights")

    with retrainable_service(tmp_path) as service:
        assert service.transform("MeM")["model_version"] == SHIPPED
        note = service.client.get("/health").json()["note"]
        assert f"version {active} is the active one, but can't be served" in note
        assert note in service.log.replace(f"{tmp_path / 'versions'}/", "")
        assert "Traceback" not in service.log
