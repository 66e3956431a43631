"""What the machine does to a service that runs for months. docs/faults.md is the table of it."""

import itertools
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.retraining import (
    TINY,
    admin_of,
    assert_state_is_whole,
    children_of,
    has_ended,
    retrainable_service,
    run_job,
    start_job,
    wait_for,
)
from tests.service import Service, python_path, running_service
from tests.waiting import eventually
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version

ENDLESS = TINY | {"num_epochs": 1000}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="looks into processes by way of /proc"
)


def descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


def resident_kib(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def address(service: Service) -> tuple[str, int]:
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    return host, int(port)


# --- descriptors and connections ----------------------------------------------------------------


def test_when_descriptors_are_used_up_open_connections_go_on_and_later_there_are_new_ones() -> None:
    with running_service() as service:
        service.transform("MeM")
        before = descriptors(service)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (before + 20, most))
        clients = [socket.create_connection(address(service), timeout=30) for _ in range(200)]
        try:
            eventually(lambda: descriptors(service) >= before + 18)
            for _ in range(20):  # on the connection that was there before
                assert service.transform("MeM")["model_version"] == SHIPPED
        finally:
            for client in clients:
                client.close()
        eventually(lambda: descriptors(service) <= before + 2)
        fresh = httpx.post(f"{service.url}/transform", json={"query": "MeM"}, timeout=60)
        assert fresh.status_code == 200
        assert "Traceback" not in service.log


@pytest.mark.parametrize("num_connects", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_after_10000_quick_connects_descriptors_and_memory_are_what_they_were(
    num_connects: int,
) -> None:
    halves = [
        b"",
        b"GET",
        b"POST /transform HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /transform HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b'Content-Length: 16\r\n\r\n{"query"',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of TLS
    ]

    def knock(number: int) -> None:
        rng = random.Random(number)
        for _ in range(num_connects // 4):
            with socket.create_connection(address(service), timeout=30) as client:
                client.sendall(rng.choice(halves))
                if rng.random() < 0.5:  # close with a reset
                    off = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)

    with running_service() as service:
        answer = service.transform("MeM")
        for number in range(10, 12):  # what the first ones take stays
            knock(number)
        eventually(lambda: service.transform("MeM") == answer)
        files, memory = descriptors(service), resident_kib(service)
        with ThreadPoolExecutor(4) as threads:
            for knocking in [threads.submit(knock, number) for number in range(4)]:
                knocking.result()
        assert service.transform("MeM")["model_version"] == SHIPPED
        eventually(lambda: descriptors(service) <= files + 2)
        assert resident_kib(service) - memory < 16 * 1024
        assert "Traceback" not in service.log


# --- the clock ----------------------------------------------------------------------------------

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

# Python's sleep ends at a point in time, which libfaketime now and then takes for an invalid one.
SLEEP_FOR_A_TIME = "import select, time; time.sleep = lambda s: select.select([], [], [], s)"


@pytest.mark.slow  # tests/jobs/test_clock.py has the same in process
@pytest.mark.skipif(FAKETIME is None, reason="there is no libfaketime to put the clock back with")
def test_a_clock_that_is_put_back_a_month_changes_no_answer_and_no_order(tmp_path: Path) -> None:
    clock = tmp_path / "clock"

    def put_clock_back(days: int) -> None:
        clock.with_suffix(".new").write_text(f"-{days}d")
        clock.with_suffix(".new").replace(clock)  # it is read all the time

    put_clock_back(0)
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # it never goes back
        "NO_FAKE_STAT": "1",  # or Python would compile every module anew
        "PYTHONPATH": python_path(tmp_path, SLEEP_FOR_A_TIME),
    }
    state = tmp_path / "state"
    with (
        retrainable_service(state, **environment, MENNY_KEEP_VERSIONS="1") as service,
        admin_of(service) as admin,
    ):
        first = run_job(admin, **TINY, seed=1, promote="never")
        assert first["state"] == "succeeded", first["reason"]
        began = service.client.get("/health").json()["uptime_seconds"]
        put_clock_back(30)
        time.sleep(2)  # the service has read it by then

        job_id = start_job(admin, **ENDLESS)
        job = wait_for(admin, job_id, lambda job: bool(job["epoch"]))
        assert str(job["created"]) < str(first["created"])  # the clock was put back indeed
        put_clock_back(60)  # and once more, while a job is running
        for query in ("a", "MeM", "hello"):
            assert service.transform(query)["model_version"] == SHIPPED
        job = wait_for(admin, job_id, lambda job: bool(job["epoch"]))
        assert 0 <= float(str(job["eta_seconds"])) < 24 * 3600
        assert admin.delete(f"/train/{job_id}").status_code in {200, 202}
        assert wait_for(admin, job_id, has_ended)["state"] == "cancelled"

        second = run_job(admin, **TINY, seed=2, promote="never")
        assert second["state"] == "succeeded", second["reason"]
        models = admin.get("/models").json()["models"]
        assert [model["version"] for model in models] == [second["version"], SHIPPED]
        assert [job["id"] for job in admin.get("/train").json()["jobs"]] == [3, 2, 1]
        assert service.client.get("/health").json()["uptime_seconds"] > began
        assert "Traceback" not in service.log


# --- the disk ------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "menny-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a disk to fill can't be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow  # full at start, and when a version is kept: tests/jobs
def test_a_disk_that_is_full_for_a_while_costs_jobs_and_no_answer(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with (
        small_disk(disk),
        retrainable_service(disk / "state") as service,
        admin_of(service) as admin,
    ):
        assert run_job(admin, **TINY, seed=1, promote="never")["state"] == "succeeded"
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            all(file.write(bytes(4096)) for _ in itertools.count())
        response = admin.post("/train", json=TINY)
        if response.status_code == 202:  # the database had a page left
            job = wait_for(admin, response.json()["id"], has_ended)
            assert job["state"] == "failed"
        else:
            assert response.status_code == 503
            assert "make room on the disk" in response.json()["detail"]
        for query in ("a", "MeM", "hello"):
            assert service.transform(query)["model_version"] == SHIPPED

        filler.unlink()
        assert run_job(admin, **TINY, seed=2, promote="never")["state"] == "succeeded"
        assert_state_is_whole(disk / "state")
        assert "Traceback" not in service.log
        service.stop()


# --- stopped processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout_s", "allowed"),
    [("30", {200}), pytest.param("0.5", {200, 504}, marks=pytest.mark.slow)],
)
def test_a_service_that_was_stopped_for_a_while_answers_those_who_waited(
    timeout_s: str, allowed: set[int]
) -> None:
    """As a laptop does when it sleeps."""
    with running_service(MENNY_REQUEST_TIMEOUT_S=timeout_s) as service:
        service.transform("MeM")
        url = f"{service.url}/transform"
        answered = threading.Event()

        def ask(number: int) -> list[int]:
            seen = []
            with httpx.Client(timeout=30, trust_env=False) as client:
                while not answered.is_set():
                    response = client.post(url, json={"query": "abcde"[: number % 5 + 1]})
                    seen.append(response.status_code)
            return seen

        with ThreadPoolExecutor(8) as threads:
            clients = [threads.submit(ask, number) for number in range(8)]
            service.process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            service.process.send_signal(signal.SIGCONT)
            answered.set()
            statuses = [status for client in clients for status in client.result()]
        assert set(statuses) <= allowed
        assert len(statuses) >= 8
        assert service.transform("MeM")["model_version"] == SHIPPED
        assert service.client.get("/health").json()["status"] == "ok"
        assert "Traceback" not in service.log


@pytest.mark.slow
@pytest.mark.parametrize("who", ["the child", "the service"])
def test_a_job_goes_on_after_its_process_or_the_service_was_stopped_for_a_while(
    tmp_path: Path, who: str
) -> None:
    with retrainable_service(tmp_path) as service, admin_of(service) as admin:
        fields = TINY | {"num_epochs": 12}
        job_id = start_job(admin, **fields, promote="never")
        wait_for(admin, job_id, lambda job: bool(job["epoch"]))
        (child,) = children_of(tmp_path)
        stopped = child if who == "the child" else service.process.pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            if who == "the child":
                assert service.transform("MeM")["model_version"] == SHIPPED
            time.sleep(1)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert wait_for(admin, job_id, has_ended)["state"] == "succeeded"
        assert_state_is_whole(tmp_path)
