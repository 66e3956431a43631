"""Promises that are about many requests at once, against a real service."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest

from app.inference.decoding import Prompt
from app.inference.model import ServedModel
from benchmarks.soak import run
from tests.end_to_end.load import traffic, until
from tests.in_process import in_process
from tests.service import Service, running_service
from training.vocabulary import encode
from training.weights import SHIPPED_WEIGHTS, load_weights, save_weights


def test_no_accepted_request_is_lost_overload_answers_503_with_retry_after_at_once() -> None:
    async def scenario(service: Service) -> None:
        async with traffic(service.url, 24) as seen:
            await until(lambda: len(seen.refused) > 50 and len(seen.answers) > 50)
        assert not seen.failed + seen.unconnected
        for response in seen.refused:
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
            assert "queries are waiting" in response.json()["detail"]
        text = service.client.get("/metrics").text
        counted = re.search(r'menny_rejected_total\{reason="overloaded"\} (\S+)', text)
        assert counted is not None
        assert float(counted[1]) == len(seen.refused)

    with running_service(
        MENNY_ANSWERS="model", MENNY_MAX_QUEUE="2", MENNY_MAX_BATCH="2"
    ) as service:
        asyncio.run(scenario(service))


def test_no_accepted_request_is_lost_sigterm_drains() -> None:
    """Every request that the service has logged as answered has reached its client, and back."""

    async def scenario(service: Service) -> int:
        async with traffic(service.url, 64) as seen:
            # Who is still connecting when the listener closes was never accepted.
            await until(lambda: len(seen.answered) == 64 and len(seen.answers) > 300)
            status = await asyncio.to_thread(service.stop_while_busy, signal.SIGTERM)
            await until(lambda: len(seen.unconnected) + len(seen.failed) == 64)
        assert not seen.refused
        assert not seen.failed, seen.failed
        assert status == 0
        return len(seen.answers)

    with running_service(
        MENNY_ANSWERS="model", MENNY_ACCESS_LOG="1", MENNY_SHUTDOWN_TIMEOUT_S="60"
    ) as service:
        num_answered = asyncio.run(scenario(service))
        assert service.log.count("POST /transform 200") == num_answered
        assert "Traceback" not in service.log


def test_health_says_draining_once_the_service_has_been_told_to_stop() -> None:
    with running_service() as service:
        service.transform("MeM")
        service.process.send_signal(signal.SIGTERM)
        seen = set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                response = service.client.get("/health")
            except httpx.TransportError:
                break
            seen.add((response.status_code, response.json()["status"]))
        assert (503, "draining") in seen
        assert seen <= {(200, "ok"), (503, "draining")}


def test_a_request_that_is_not_answered_in_time_gets_504() -> None:
    with in_process(answers="model", request_timeout_s=1e-6) as menny:
        response = menny.client.post("/transform", json={"query": "MeM"})
    assert response.status_code == 504
    assert "no answer within" in response.json()["detail"]


@pytest.fixture
def two_models(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A path to serve, and two weights files by their version, that answer differently."""
    shipped = load_weights(SHIPPED_WEIGHTS)
    assert shipped.card is not None
    files = {}
    for number in range(2):
        path = tmp_path / f"model-{number}.npz"
        bias = shipped.parameters["fc.bias"].copy()
        bias[encode("aeiouAEIOU")[number::2]] += 3
        card = save_weights(path, dict(shipped.parameters) | {"fc.bias": bias}, shipped.card)
        files[card.sha256[:12]] = path
    served = tmp_path / "served.npz"
    os.link(next(iter(files.values())), served)
    return served, files


def replace(served: Path, model: Path) -> None:
    temporary = served.with_suffix(".new")
    os.link(model, temporary)
    temporary.replace(served)


def test_a_new_model_is_swapped_in_between_batches_zero_failed_requests(
    two_models: tuple[Path, dict[str, Path]],
) -> None:
    """By SIGHUP; tests/end_to_end/test_retraining_endurance.py has two hundred activations."""
    served, files = two_models

    async def scenario(service: Service) -> list[dict[str, str]]:
        async def serves(version: str) -> bool:
            async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
                return (await client.get("/health")).json()["model_version"] == version

        async with traffic(service.url, 8) as seen:
            await until(lambda: bool(seen.answers))
            for number in range(3):
                version = list(files)[(number + 1) % 2]
                replace(served, files[version])
                service.process.send_signal(signal.SIGHUP)
                await until(lambda version=version: serves(version))
        assert not seen.failed + seen.refused + seen.unconnected
        return seen.answers

    with running_service(MENNY_WEIGHTS=served) as service:
        answers = asyncio.run(scenario(service))
        assert "Traceback" not in service.log
    assert {answer["model_version"] for answer in answers} == set(files)
    for version, path in files.items():  # each answer is right for the version that it names
        model = ServedModel(load_weights(path), max_batch=64)
        mine = [answer for answer in answers if answer["model_version"] == version][:2000]
        for start in range(0, len(mine), 64):
            batch = mine[start : start + 64]
            expected = model.answer([Prompt(answer["query"]) for answer in batch])
            assert [a.response for a in expected] == [a["response"] for a in batch]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads memory by way of /proc")
def test_a_soak_of_mixed_traffic_has_no_unexplained_error_and_flat_memory() -> None:
    """The short form of `make soak`."""
    soak = run(seconds=300)
    assert not soak.counts.unexplained
    assert not soak.log_complaints
    assert sum(soak.counts.seen["transform"].values()) > 1000
    for client in ("batch", "sampling", "bad input", "gone midway", "garbage", "half a request"):
        assert soak.counts.seen[client]
    assert soak.samples[-1].resident_kib < 250 * 1024
    assert soak.growth("resident_kib") < 8 * 1024
    assert soak.growth("descriptors") < 10
    assert soak.growth("threads") < 10
