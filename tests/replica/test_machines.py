"""Real services: a primary, replicas that follow it and, where it is installed, HAProxy."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.load import Traffic, traffic, until
from tests.jobs.house import SHIPPED, make_weights, version_of
from tests.retraining import ADMIN, TOKEN
from tests.service import Service, clean_environment, running_service
from training.weights import save_weights

READ_TOKEN = "a-token-to-read-with"  # noqa: S105 - it guards nothing
CONFIGURATION = Path(__file__).parents[2] / "docs" / "haproxy.cfg"


def running_primary(state: Path) -> AbstractContextManager[Service]:
    """A service with a second version, which is not active."""
    (state / "versions").mkdir(parents=True)
    save_weights(state / "versions" / f"{version_of(1)}.npz", *make_weights(1))
    return running_service(
        MENNY_STATE_DIR=state, MENNY_ADMIN_TOKEN=TOKEN, MENNY_READ_TOKEN=READ_TOKEN
    )


def running_replica(primary: str, state: Path, port: int = 0) -> AbstractContextManager[Service]:
    return running_service(
        *("--follow", primary, "--port", str(port)),
        MENNY_STATE_DIR=state,
        MENNY_READ_TOKEN=READ_TOKEN,
    )


def activate(primary: Service, version: str) -> None:
    response = primary.client.post(f"/models/{version}/activate", headers=ADMIN)
    assert response.status_code == 200, response.text


def wait_until_it_answers(replica: Service, version: str) -> None:
    def answers() -> bool:
        return replica.client.get("/health").json()["model_version"] == version

    asyncio.run(until(answers))


def test_a_replica_follows_its_primary_survives_it_and_remembers(tmp_path: Path) -> None:
    state = tmp_path / "replica"
    with running_primary(tmp_path / "primary") as primary:
        with running_replica(primary.url, state) as replica:
            wait_until_it_answers(replica, SHIPPED)
            assert replica.transform("MeM") == primary.transform("MeM")
            activate(primary, version_of(1))
            wait_until_it_answers(replica, version_of(1))
            primary.process.kill()
            primary.process.wait()

            def is_missed() -> bool:
                return bool(replica.client.get("/health").json()["following"]["since"])

            asyncio.run(until(is_missed))
            health = replica.client.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            assert f"version {version_of(1)} goes on answering" in health.json()["note"]
            assert replica.transform("MeM")["model_version"] == version_of(1)
            assert replica.stop() == 0
            assert "HTTP Request" not in replica.log  # it asks every second
        with running_replica(primary.url, state) as replica:
            assert replica.transform("MeM")["model_version"] == version_of(1)
            assert "Traceback" not in replica.log


# --- behind HAProxy -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def haproxy(*replicas: Service) -> Iterator[str]:
    front = f"127.0.0.1:{free_port()}"
    one, two = (replica.url.removeprefix("http://") for replica in replicas)
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", CONFIGURATION],
        env=clean_environment() | {"MENNY_FRONT": front, "MENNY_ONE": one, "MENNY_TWO": two},
    )
    try:
        with httpx.Client(trust_env=False) as client:

            def is_up() -> bool:
                try:
                    return client.get(f"http://{front}/health").status_code == 200
                except httpx.TransportError:
                    return False

            asyncio.run(until(is_up))
        yield f"http://{front}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_behind_haproxy_updates_restarts_and_a_kill_cost_no_request(tmp_path: Path) -> None:
    with ExitStack() as stack, running_primary(tmp_path / "primary") as primary:

        def start(number: int, port: int = 0) -> Service:
            replica = stack.enter_context(
                running_replica(primary.url, tmp_path / str(number), port)
            )
            wait_until_it_answers(replica, SHIPPED if port == 0 else version_of(1))
            return replica

        replicas = [start(0), start(1)]
        with haproxy(*replicas) as url:
            asyncio.run(_update_and_restart(url, primary, replicas, start))


async def _update_and_restart(url: str, primary: Service, replicas: list, start) -> None:
    async with traffic(url, 8) as seen:
        await answers_come_from(seen, SHIPPED)
        activate(primary, version_of(1))
        for replica in replicas:
            await asyncio.to_thread(wait_until_it_answers, replica, version_of(1))
        await _wait_for_the_busy(url, replicas)
        for how in (signal.SIGTERM, signal.SIGKILL):
            for number, replica in enumerate(replicas):
                port = int(replica.url.rpartition(":")[2])
                status = await asyncio.to_thread(replica.stop_while_busy, how)
                assert status == (0 if how is signal.SIGTERM else -signal.SIGKILL)
                await answers_come_from(seen, version_of(1))  # of the other one
                replicas[number] = await asyncio.to_thread(start, number, port)
                await asyncio.sleep(1)  # HAProxy looks twice a second
    assert len(seen.answers) > 500
    assert (seen.failed, seen.unconnected, seen.refused) == ([], [], [])
    assert {answer["model_version"] for answer in seen.answers} == {SHIPPED, version_of(1)}


async def _wait_for_the_busy(url: str, replicas: list) -> None:
    """Replicas that answer no check in time are asked all the same: they are not dead."""
    for replica in replicas:
        replica.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.5)
    async with traffic(url, 1) as late:
        await asyncio.sleep(0.3)  # until HAProxy has its request
        for replica in replicas:
            replica.process.send_signal(signal.SIGCONT)
        await until(lambda: bool(late.answers or late.refused or late.failed))
    assert (late.refused, late.failed) == ([], [])


async def answers_come_from(seen: Traffic, version: str) -> None:
    before = len(seen.answers)
    await until(lambda: len(seen.answers) > before + 50)
    assert seen.answers[-1]["model_version"] == version
