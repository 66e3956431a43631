"""`menny serve --workers N`, the real thing: processes that are killed, stopped and left alone."""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from app.scoreboard import Worker
from tests.end_to_end.load import until
from tests.http.wire import stubbed_app
from tests.in_process import InProcess
from tests.retraining import ADMIN, LONG, admin_of, put_versions, retrainable_service, start_job
from tests.service import Service, clean_environment, python_path
from tests.workers.test_peers import ALWAYS_LIVE, scoreboard_of


def wait_for(happened: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids_of(service: Service) -> list[int]:
    """The workers, the first one first."""
    found = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in found.splitlines()]
    return sorted(pid for pid, parent in pairs if parent == service.process.pid)


def num_live(service: Service) -> int:
    found: int = httpx.get(f"{service.url}/health", timeout=30).json()["workers"]
    return found


def metric(service: Service, name: str) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def workers(num_workers: int, state: Path, **environment: str) -> AbstractContextManager[Service]:
    return retrainable_service(state, MENNY_WORKERS=str(num_workers), **environment)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers; at the end they are told to stop, and end as one process does."""
    with workers(2, tmp_path_factory.mktemp("state")) as service:
        wait_for(lambda: num_live(service) == 2)
        yield service
        assert service.stop() == 0
        assert "Traceback" not in service.log
        assert "Fatal" not in service.log


def test_metrics_add_all_workers_up(pair: Service) -> None:
    name = 'menny_requests_total{route="/transform",status="200"}'
    for _ in range(20):
        httpx.post(f"{pair.url}/transform", json={"query": "MeM"})  # on a connection of its own
    assert metric(pair, name) == 20
    assert metric(pair, 'menny_answers_total{source="table"}') == 20
    assert metric(pair, "menny_workers") == 2


def test_a_job_is_watched_and_cancelled_at_whichever_worker_one_gets(pair: Service) -> None:
    with admin_of(pair) as admin:
        job_id = start_job(admin, **LONG)
    for _ in range(6):
        job = httpx.get(f"{pair.url}/train/{job_id}", headers=ADMIN).json()
        assert job["state"] in {"queued", "running"}
        assert httpx.post(f"{pair.url}/train", headers=ADMIN).status_code == 409
    assert httpx.delete(f"{pair.url}/train/{job_id}", headers=ADMIN).status_code in {200, 202}
    url = f"{pair.url}/train/{job_id}"
    wait_for(lambda: httpx.get(url, headers=ADMIN).json()["state"] == "cancelled")


def test_a_worker_that_is_killed_is_started_again_and_said_in_log_and_metrics(
    pair: Service,
) -> None:
    killed = pids_of(pair)[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: killed not in pids_of(pair) and num_live(pair) == 2)
    assert metric(pair, "menny_worker_restarts_total") == 1
    assert f"(process {killed}) ended with SIGKILL: it is started again" in pair.log


def test_when_the_supervisor_is_killed_no_worker_holds_the_port_for_long(tmp_path: Path) -> None:
    with workers(2, tmp_path) as service:
        wait_for(lambda: num_live(service) == 2)
        pids = pids_of(service)
        os.kill(pids[1], signal.SIGSTOP)  # it can't read that it is left alone, before it is woken
        service.process.kill()
        port = int(service.url.rpartition(":")[2])

        def is_free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) != 0

        wait_for(is_free, limit_s=10)


def test_if_no_worker_can_start_the_service_ends_with_status_1(tmp_path: Path) -> None:
    code = "import os, sys\nif 'app.workers' in sys.orig_argv: os._exit(3)"
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "serve", "--port", "0", "--workers", "2"],
        env=clean_environment()
        | {"PYTHONPATH": python_path(tmp_path, code), "MENNY_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "ended with exit status 3 at its start" in ended.stderr


def test_a_replica_is_one_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "serve", "--workers", "2"]
        + ["--follow", "http://127.0.0.1:9"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "MENNY_FOLLOW: a replica is one process" in ended.stderr


def test_health_is_503_only_if_no_worker_can_answer(tmp_path: Path) -> None:
    with scoreboard_of(tmp_path, 2) as board, start_blocking_portal() as portal:
        app = stubbed_app()
        app.state.worker = Worker(board, board.rows[0], None)
        app.state.engine.can_answer = False
        menny = InProcess(app, portal)
        other = board.rows[1]
        other.beat, other.can_answer = ALWAYS_LIVE, 1
        health = menny.client.get("/health")
        assert (health.status_code, health.json()["workers"]) == (200, 1)
        other.can_answer = 0
        assert menny.client.get("/health").status_code == 503


# --- with four workers, under load ----------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_swaps_under_load_fail_no_request_and_none_goes_back(tmp_path: Path) -> None:
    asyncio.run(swap_a_hundred_times(tmp_path))


async def swap_a_hundred_times(tmp_path: Path) -> None:
    versions = put_versions(tmp_path, 2)
    confirmed = {"order": 0, "version": ""}
    stale: list[tuple[str, str]] = []
    with workers(4, tmp_path) as service:
        await asyncio.to_thread(wait_for, lambda: num_live(service) == 4)
        done = asyncio.Event()

        async def ask(number: int) -> int:
            """On one connection after another, so that each worker gets its share."""
            rng, count = random.Random(number), 0
            while not done.is_set():
                async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
                    for _ in range(rng.randint(1, 50)):
                        order, version = confirmed["order"], confirmed["version"]
                        response = await client.post("/transform", json={"query": "MeM"})
                        assert response.status_code == 200, response.text
                        count += 1
                        # Nothing was confirmed, or begun, while this was asked and answered.
                        if version and confirmed["order"] == order and order % 2 == 0:
                            found = response.json()["model_version"]
                            if found != version:
                                stale.append((version, found))
            return count

        clients = [asyncio.create_task(ask(number)) for number in range(64)]
        async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=ADMIN) as admin:
            for number in range(100):
                version = versions[number % 2]
                confirmed["order"] += 1
                response = await admin.post(f"/models/{version}/activate")
                assert response.status_code == 200, response.text
                confirmed["version"] = version
                confirmed["order"] += 1
                await asyncio.sleep(0.05)
        done.set()
        counts = await asyncio.gather(*clients)
        assert stale == []
        assert min(counts) > 0
        assert service.stop() == 0


@pytest.mark.slow
def test_fifty_kills_under_load_cost_only_what_the_killed_had_in_hand(tmp_path: Path) -> None:
    asyncio.run(kill_fifty_times(tmp_path))


async def kill_fifty_times(tmp_path: Path) -> None:
    rng = random.Random(0)
    with workers(4, tmp_path) as service:
        await asyncio.to_thread(wait_for, lambda: num_live(service) == 4)
        num_failed = num_answered = 0
        done = asyncio.Event()

        async def ask() -> None:
            nonlocal num_failed, num_answered
            while not done.is_set():
                async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
                    try:
                        while not done.is_set():
                            response = await client.post("/transform", json={"query": "MeM"})
                            assert response.status_code == 200
                            num_answered += 1
                    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                        num_failed += 1  # a time-out would be an error of this test

        clients = [asyncio.create_task(ask()) for _ in range(64)]
        for _ in range(50):
            await until(lambda: len(pids_of(service)) >= 2)
            os.kill(rng.choice(pids_of(service)), signal.SIGKILL)
            await asyncio.sleep(0.5)
        done.set()
        await asyncio.gather(*clients)
        assert 0 < num_failed <= 50 * 64
        assert num_answered > 20 * num_failed
        await asyncio.to_thread(wait_for, lambda: num_live(service) == 4)
        assert metric(service, "menny_worker_restarts_total") == 50
        assert service.stop() == 0


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_named_and_nothing_is_switched_until_it_goes_on(
    tmp_path: Path,
) -> None:
    (version,) = put_versions(tmp_path, 1)
    with workers(4, tmp_path) as service:
        wait_for(lambda: num_live(service) == 4)
        stopped = pids_of(service)[3]
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: num_live(service) == 3)
        with admin_of(service) as admin:
            refused = admin.post(f"/models/{version}/activate")
            assert refused.status_code == 504
            assert f"(process {stopped}) was not ready" in refused.json()["detail"]
            assert not admin.get(f"/models/{version}").json()["active"]
            os.kill(stopped, signal.SIGCONT)
            assert admin.post(f"/models/{version}/activate").status_code == 200
        assert {service.transform("MeM")["model_version"] for _ in range(20)} == {version}
        assert service.stop() == 0


@pytest.mark.slow
def test_a_worker_that_stops_while_it_holds_a_change_is_killed_and_another_one_makes_its_own(
    tmp_path: Path,
) -> None:
    (version,) = put_versions(tmp_path, 1)
    with workers(2, tmp_path) as service:
        wait_for(lambda: num_live(service) == 2)
        other, holder = pids_of(service)
        os.kill(other, signal.SIGSTOP)  # so that the other one gets the request, and waits for it
        activating = subprocess.Popen(
            ["curl", "-s", "-XPOST", "-H", f"Authorization: {ADMIN['Authorization']}"]
            + [f"{service.url}/models/{version}/activate"],
            stdout=subprocess.DEVNULL,
        )
        time.sleep(2)
        os.kill(holder, signal.SIGSTOP)
        os.kill(other, signal.SIGCONT)
        with admin_of(service) as admin:
            assert admin.post(f"/models/{version}/activate").status_code == 200
        activating.wait(30)
        assert holder not in pids_of(service)


@pytest.mark.slow
def test_when_the_worker_that_runs_a_job_is_killed_another_takes_over_within_two_seconds(
    tmp_path: Path,
) -> None:
    with workers(4, tmp_path) as service:
        wait_for(lambda: num_live(service) == 4)
        with admin_of(service) as admin:
            job_id = start_job(admin, **LONG)
            url = f"{service.url}/train/{job_id}"

        def state() -> str:
            return str(httpx.get(url, headers=ADMIN).json()["state"])

        wait_for(lambda: state() == "running" and children_of(pids_of(service)))
        (holder,) = children_of(pids_of(service))
        began = time.monotonic()
        os.kill(holder, signal.SIGKILL)
        wait_for(lambda: state() == "interrupted")
        assert time.monotonic() - began < 2 + 1  # and a busy machine
        wait_for(lambda: num_live(service) == 4)
        with admin_of(service) as admin:
            again = start_job(admin, **LONG)
            admin.delete(f"/train/{again}")
        assert service.stop() == 0


def children_of(pids: list[int]) -> list[int]:
    """Those of these processes that have children."""
    found = subprocess.run(
        ["ps", "-A", "-o", "ppid="], capture_output=True, text=True, check=True
    ).stdout
    return sorted(set(pids) & set(map(int, found.split())))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Pss is Linux's")
def test_a_further_worker_takes_less_than_130_mb(tmp_path: Path) -> None:
    with workers(4, tmp_path) as service:
        wait_for(lambda: num_live(service) == 4)
        time.sleep(3)  # models are loaded
        for pid in pids_of(service):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            megabytes = int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) / 1024
            print(f"Pss {megabytes:.1f} MB")
            assert megabytes < 130
