"""`menny serve --workers N`, the real thing: processes that are killed, stopped and left alone."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from app.scoreboard import Worker
from tests.http.wire import stubbed_app
from tests.in_process import InProcess
from tests.retraining import ADMIN, LONG, admin_of, put_versions, retrainable_service, start_job
from tests.service import Service, clean_environment, python_path
from tests.waiting import eventually
from tests.workers.test_peers import ALWAYS_LIVE, scoreboard_of


def pids_of(service: Service) -> list[int]:
    """The workers, the first one first."""
    found = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in found.splitlines()]
    return sorted(
        int(pid)
        for pid, parent, state in rows
        if int(parent) == service.process.pid and not state.startswith("Z")
    )


def stop(pid: int) -> None:
    """Have a process do nothing until it is woken; returns when none of its threads does."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: states_of_threads(pid) == {"T"})


def states_of_threads(pid: int) -> set[str]:
    """As `ps` has them; where there is no /proc, that of the process."""
    threads = Path("/proc", str(pid), "task")
    if threads.is_dir():
        states = set()
        for thread in threads.iterdir():
            with suppress(OSError):  # it has ended meanwhile
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return states
    command = ["ps", "-p", str(pid), "-o", "stat="]
    return {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()[:1]}


def num_live(service: Service) -> int:
    found: int = httpx.get(f"{service.url}/health", timeout=30).json()["workers"]
    return found


def metric(service: Service, name: str) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


@contextmanager
def workers(num_workers: int, state: Path, **environment: str) -> Iterator[Service]:
    """All live, and with their model: who loads it keeps others from changing the version."""
    with retrainable_service(state, MENNY_WORKERS=str(num_workers), **environment) as service:
        eventually(lambda: service.log.count("and the model") >= num_workers)
        eventually(lambda: num_live(service) == num_workers)
        yield service


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers; at the end they are told to stop, and end as one process does."""
    with workers(2, tmp_path_factory.mktemp("state")) as service:
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
    eventually(lambda: httpx.get(url, headers=ADMIN).json()["state"] == "cancelled")


def test_a_worker_that_is_killed_is_started_again_and_said_in_log_and_metrics(
    pair: Service,
) -> None:
    killed = pids_of(pair)[0]
    os.kill(killed, signal.SIGKILL)
    # One that has just died still counts as live, as long as its last heartbeat does.
    eventually(lambda: metric(pair, "menny_worker_restarts_total") == 1)
    eventually(lambda: len(pids_of(pair)) == 2 and num_live(pair) == 2)
    assert f"(process {killed}) ended with SIGKILL: it is started again" in pair.log


def test_when_the_supervisor_is_killed_no_worker_holds_the_port_for_long(tmp_path: Path) -> None:
    with workers(2, tmp_path) as service:
        stopped = pids_of(service)[1]
        stop(stopped)  # it can't read that it is left alone, before it is woken
        service.process.kill()
        port = int(service.url.rpartition(":")[2])

        def is_free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) != 0

        try:
            eventually(is_free, within_s=10)
        finally:
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)  # or who reads its log would wait for ever
        service.stop()


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


REQUEST = (
    b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 15\r\n\r\n{"query":"MeM"}'
)


async def ask(service: Service, *, times: int, timeout_s: float = 60) -> AsyncIterator[str]:
    """The versions that answer so many times on one connection; `ConnectionError` if it breaks.

    By hand, for a client that costs more than the service would measure itself.
    """
    url = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        for _ in range(times):
            async with asyncio.timeout(timeout_s):
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                length = int(re.search(rb"content-length: (\d+)", head)[1])
                yield json.loads(await reader.readexactly(length))["model_version"]
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError from error
    finally:
        writer.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 400 models are loaded
def test_a_hundred_swaps_under_load_fail_no_request_and_none_goes_back(tmp_path: Path) -> None:
    versions = put_versions(tmp_path, 2)
    with workers(4, tmp_path) as service:
        asyncio.run(swap_a_hundred_times(service, versions))
        assert service.stop() == 0


async def swap_a_hundred_times(service: Service, versions: list[str]) -> None:
    confirmed = ""  # empty while another version becomes the active one
    counts, stale = [0] * 64, set()
    is_over = asyncio.Event()

    async def client(number: int) -> None:
        rng = random.Random(number)
        while not is_over.is_set():  # one connection after another: each worker gets its share
            before = confirmed
            async for version in ask(service, times=rng.randint(1, 50)):
                if before and before == confirmed != version:  # was so when it was asked, too
                    stale.add((before, version))
                before = confirmed
                counts[number] += 1

    clients = [asyncio.create_task(client(number)) for number in range(64)]
    async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=ADMIN) as admin:
        for number in range(100):
            version = versions[number % 2]
            confirmed = ""
            response = await admin.post(f"/models/{version}/activate")
            assert response.status_code == 200, response.text
            confirmed = version
            await asyncio.sleep(0.05)
    is_over.set()
    await asyncio.gather(*clients)
    assert stale == set()
    assert min(counts) > 0


@pytest.mark.slow
def test_fifty_kills_under_load_cost_only_what_the_killed_had_in_hand(tmp_path: Path) -> None:
    with workers(4, tmp_path) as service:
        asyncio.run(kill_fifty_times(service))
        eventually(lambda: num_live(service) == 4)
        assert metric(service, "menny_worker_restarts_total") == 50
        assert service.stop() == 0


async def kill_fifty_times(service: Service) -> None:
    num_broken = num_answered = 0
    is_over = asyncio.Event()

    async def client() -> None:
        nonlocal num_broken, num_answered
        while not is_over.is_set():
            try:
                async for _ in ask(service, times=100):  # a time-out would fail this test
                    num_answered += 1
            except ConnectionError:
                num_broken += 1

    clients = [asyncio.create_task(client()) for _ in range(64)]
    rng = random.Random(0)
    killed: set[int] = set()

    def rest() -> list[int]:
        return sorted({*pids_of(service)} - killed)

    for _ in range(50):
        await asyncio.to_thread(eventually, lambda: len(rest()) > 1)
        pid = rng.choice(rest())
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        await asyncio.sleep(0.5)
    is_over.set()
    await asyncio.gather(*clients)
    assert 0 < num_broken <= 50 * 64
    assert num_answered > 10 * num_broken


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_named_and_nothing_is_switched_until_it_goes_on(
    tmp_path: Path,
) -> None:
    (version,) = put_versions(tmp_path, 1)
    with workers(4, tmp_path) as service:
        stopped = pids_of(service)[3]
        stop(stopped)
        eventually(lambda: num_live(service) == 3)
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
        other, holder = pids_of(service)
        stop(other)  # so that the other one gets the request, and waits for it
        activating = subprocess.Popen(
            ["curl", "-s", "-XPOST", "-H", f"Authorization: {ADMIN['Authorization']}"]
            + [f"{service.url}/models/{version}/activate"],
            stdout=subprocess.DEVNULL,
        )
        eventually(lambda: is_proposed(tmp_path / "menny.sqlite3"))
        stop(holder)
        os.kill(other, signal.SIGCONT)
        with admin_of(service) as admin:
            assert admin.post(f"/models/{version}/activate").status_code == 200
        activating.wait(30)
        assert holder not in pids_of(service)
        assert service.stop() == 0


def is_proposed(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT proposer FROM active").fetchone() != (None,)


@pytest.mark.slow
def test_when_the_worker_that_runs_a_job_is_killed_another_takes_over_within_two_seconds(
    tmp_path: Path,
) -> None:
    with workers(4, tmp_path) as service:
        with admin_of(service) as admin:
            job_id = start_job(admin, **LONG)
            url = f"{service.url}/train/{job_id}"

        def state() -> str:
            return str(httpx.get(url, headers=ADMIN).json()["state"])

        eventually(lambda: state() == "running" and children_of(pids_of(service)))
        (holder,) = children_of(pids_of(service))
        began = time.monotonic()
        os.kill(holder, signal.SIGKILL)
        eventually(lambda: state() == "interrupted")
        assert time.monotonic() - began < 2 + 1  # and a busy machine
        eventually(lambda: num_live(service) == 4)
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
        for pid in pids_of(service):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            megabytes = int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) / 1024
            print(f"Pss {megabytes:.1f} MB")
            assert megabytes < 130
