"""Promises 3 and 4, many times over: swaps under load, and kill -9 at any moment."""

import random
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from app.inference.decoding import Prompt
from app.inference.model import ServedModel
from tests.retraining import (
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
from training.weights import SHIPPED_WEIGHTS, load_weights

QUERIES = ["a", "Z", "MeM", "hello", "WORLD", "xYz", "qQ", "menny"]
CLIENTS = 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_new_model_is_swapped_in_between_batches_with_zero_failed_requests(
    tmp_path: Path,
) -> None:
    num_swaps = 200
    made = put_versions(tmp_path, 2)
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        files = [SHIPPED_WEIGHTS] + [tmp_path / "versions" / f"{name}.npz" for name in made]
        right = {load_weights(path).version: _answers(path) for path in files}
        assert len(right) == 3

        enough = threading.Event()
        wrong: list[str] = []
        counts = [0] * CLIENTS

        def ask(number: int) -> None:
            with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
                while not enough.is_set():
                    query = QUERIES[counts[number] % len(QUERIES)]
                    response = client.post("/transform", json={"query": query})
                    counts[number] += 1
                    answer = response.json()
                    if response.status_code != 200:
                        wrong.append(response.text)
                    elif answer["response"] != right[answer["model_version"]][query]:
                        wrong.append(f"{answer} instead of {right[answer['model_version']]}")

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for number in range(num_swaps):
                name = list(right)[number % 3]
                assert admin.post(f"/models/{name}/activate").status_code == 200
                assert service.transform("MeM")["model_version"] == name
        finally:
            enough.set()
            for client in clients:
                client.join()

        assert not wrong
        assert sum(counts) > num_swaps
        print(f"{num_swaps} swaps, {sum(counts)} requests beside them, 0 failed or wrong")


def _answers(path: Path) -> dict[str, str]:
    model = ServedModel(load_weights(path), max_batch=1)
    return {query: model.answer([Prompt(query)])[0].response for query in QUERIES}


@pytest.mark.parametrize(
    "num_kills", [1, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_whatever_moment_the_service_is_killed_the_model_that_serves_keeps_serving(
    tmp_path: Path, num_kills: int
) -> None:
    moments = random.Random(num_kills)
    known = {load_weights(SHIPPED_WEIGHTS).version}
    ended: list[str] = []
    for number in range(num_kills):
        with retrainable_service(tmp_path) as service, admin_of(service) as admin:
            # Every second moment is near the promotion, the others anywhere in the job.
            job_id = start_job(admin, **TINY, seed=number, promote="always")
            if number % 2 == 0:
                wait_for(admin, job_id, lambda job: job["phase"] == "checking" or has_ended(job))
                time.sleep(moments.uniform(0.3, 1.2))
            else:
                time.sleep(moments.uniform(0, 2))
            service.stop(signal.SIGKILL)
        assert_no_child_is_left(tmp_path)

        with retrainable_service(tmp_path) as service, admin_of(service) as admin:
            models = admin.get("/models").json()["models"]
            assert_state_is_whole(tmp_path)
            (active,) = [model["version"] for model in models if model["active"]]
            assert service.transform("MeM")["model_version"] == active
            assert service.client.get("/health").json()["note"] is None
            job = admin.get(f"/train/{job_id}").json()
            assert job["state"] in {"interrupted", "succeeded"}
            assert active in known | {job["version"]}
            assert (active == job["version"]) == job["promoted"]
            known = {active}
            ended.append(f"{job['state']}{' and promoted' if job['promoted'] else ''}")
            service.stop(signal.SIGKILL)
    assert not children_of(tmp_path)
    print(f"{num_kills} kills: " + ", ".join(f"{ended.count(e)} {e}" for e in sorted(set(ended))))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_default_job_succeeds_and_passes_the_gate(tmp_path: Path) -> None:
    with (
        retrainable_service(tmp_path, MENNY_GATE_QUERIES="20000") as service,
        admin_of(service) as admin,
    ):
        began = time.monotonic()
        job_id = start_job(admin)
        while not has_ended(job := admin.get(f"/train/{job_id}").json()):
            service.transform("MeM")
            time.sleep(0.05)
            assert time.monotonic() - began < 300
        took = time.monotonic() - began

        assert job["state"] == "succeeded", job
        assert job["promoted"], job["reason"]
        assert job["gate"]["candidate"]["num_queries"] == 20_000
        print(f"the default job took {took:.1f} s: {job['reason']}")
