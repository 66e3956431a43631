"""Menny on Ray Serve: a real cluster of two nodes on this machine, behind Ray's HAProxy."""

import asyncio
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.end_to_end.load import traffic, until
from tests.jobs.house import SHIPPED, version_of
from tests.replica.test_machines import (
    READ_TOKEN,
    activate,
    answers_come_from,
    free_port,
    running_primary,
)
from tests.service import Service, clean_environment, python_path
from training.proof.answers import load_table, table_path
from training.proof.on_ray import examine_on_ray
from training.proof.queries import Plan
from training.proof.run import become_examiner, examine_chunk
from training.weights import SHIPPED_WEIGHTS, load_weights

CONFIGURATION = Path(__file__).parents[1] / "docs" / "serve_config.yaml"
NUM_CLIENTS = 8
NONE: frozenset[str] = frozenset()
WAIT_S = 180
PYTHON = [sys.executable, "-P", "-m"]
ENVIRONMENT = {
    "PYTHONPATH": python_path(),
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # by itself 5, in which a busy machine
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",  # has not imported Ray
    "RAY_USAGE_STATS_ENABLED": "0",
}
SEVERAL = 60
"""Requests, enough that both replicas are asked."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


class Cluster:
    """Two nodes, as `tests.ray_cluster` holds them up."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address

    def tell(self, line: str) -> None:
        """Returns when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        while read_line(self._process) != "done":  # Ray says something, too
            assert self._process.poll() is None, "the cluster has ended"


def replicas(url: str) -> frozenset[str]:
    """What tells those that answer from each other: when each began to count."""
    found = NONE
    for _ in range(SEVERAL):
        metrics = httpx.get(f"{url}/metrics", timeout=WAIT_S, trust_env=False).text
        found |= set(re.findall(r"^menny_batch_size_created (.+)", metrics, re.MULTILINE))
    return found


def read_line(process: subprocess.Popen[str]) -> str:
    timer = threading.Timer(WAIT_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline().removesuffix("\n")
    finally:
        timer.cancel()


@contextmanager
def two_nodes(**environment: str) -> Iterator[Cluster]:
    process = subprocess.Popen(
        [*PYTHON, "tests.ray_cluster"],
        env=clean_environment()
        | ENVIRONMENT
        | {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}
        | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = read_line(process)
        assert address, "the cluster did not start"
        yield Cluster(process, address)
    finally:
        with process.stdin, process.stdout:
            process.stdin.close()
            try:
                process.wait(60)
            finally:
                process.kill()


def serve(cluster: Cluster, folder: Path) -> str:
    """`serve run` with what docs/serve_config.yaml says, but for ports; returns the URL."""
    port = free_port()
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["http_options"] = {"host": "127.0.0.1", "port": port}
    configuration["proxy_location"] = "HeadOnly"  # two nodes can't have one port of one machine
    (folder / "serve.yaml").write_text(yaml.safe_dump(configuration))
    subprocess.run(
        [*PYTHON, "ray.serve.scripts", "run", "--non-blocking", "--address", cluster.address]
        + ["--app-dir", folder, folder / "serve.yaml"],
        env=clean_environment() | ENVIRONMENT,
        check=True,
        timeout=WAIT_S,
    )
    return f"http://127.0.0.1:{port}"


def test_a_proof_on_a_cluster_finds_the_same_answers_bit_for_bit(tmp_path: Path) -> None:
    weights, plan = load_weights(SHIPPED_WEIGHTS), Plan(max_length=3)
    chunks = range(plan.workload().num_chunks)
    become_examiner(weights.parameters, plan)
    alone = [examine_chunk(chunk) for chunk in chunks]
    with two_nodes() as cluster:
        found = examine_on_ray(cluster.address)(weights.parameters, plan, chunks)
        assert sorted(found, key=lambda item: item.chunk) == alone
        command = [*PYTHON, "app.cli", "verify", "--ray", cluster.address, "--max-length", "2"]
        subprocess.run([*command, "--cache", tmp_path], check=True, timeout=WAIT_S)
    assert len(alone) > 4
    assert all(item.codes for item in alone)


def test_replicas_on_two_nodes_answer_exactly_survive_kills_and_follow(tmp_path: Path) -> None:
    with (
        running_primary(tmp_path / "primary") as primary,
        two_nodes(MENNY_FOLLOW=primary.url, MENNY_READ_TOKEN=READ_TOKEN) as cluster,
    ):
        asyncio.run(_kill_and_update(cluster, serve(cluster, tmp_path), primary))


async def _kill_and_update(cluster: Cluster, url: str, primary: Service) -> None:
    first = await _wait_for_replicas(url, 2)
    async with traffic(url, NUM_CLIENTS) as killed:
        await answers_come_from(killed, SHIPPED)
        await asyncio.to_thread(cluster.tell, "kill a replica")
        await answers_come_from(killed, SHIPPED)
        await _wait_for_replicas(url, 1, but=first)
    async with traffic(url, NUM_CLIENTS) as died:
        await answers_come_from(died, SHIPPED)
        await asyncio.to_thread(cluster.tell, "kill a node")
        await answers_come_from(died, SHIPPED)
    async with traffic(url, NUM_CLIENTS) as updated:
        activate(primary, version_of(1))
        await until(lambda: bool(updated.answers and is_newer(updated.answers[-1])))
        await answers_come_from(updated, version_of(1))
    for seen in (killed, died):  # a client whose request was in hand stops, and no other
        assert len(seen.failed + seen.refused) < NUM_CLIENTS
    assert (updated.failed, updated.refused) == ([], [])
    _check(killed.answers + died.answers + updated.answers, primary)


async def _wait_for_replicas(url: str, number: int, but: frozenset[str] = NONE) -> frozenset[str]:
    """Until so many answer, those of before left out."""
    found = NONE

    async def are_there() -> bool:
        nonlocal found
        found = await asyncio.to_thread(replicas, url)
        return len(found - but) == number

    await until(are_there, WAIT_S)
    return found


def is_newer(answer: dict[str, str]) -> bool:
    return answer["model_version"] == version_of(1)


def _check(answers: list[dict[str, str]], primary: Service) -> None:
    """Each is that of its version: the table's, and the primary's."""
    assert {answer["model_version"] for answer in answers} == {SHIPPED, version_of(1)}
    table = load_table(table_path(SHIPPED_WEIGHTS), load_weights(SHIPPED_WEIGHTS).sha256)
    newer = [answer for answer in answers if is_newer(answer)][:1024]
    for answer in answers:
        assert is_newer(answer) or answer["response"] == table.answer(answer["query"])
    queries = [answer["query"] for answer in newer]
    response = primary.client.post("/transform/batch", json={"queries": queries})
    assert response.json()["answers"] == newer
