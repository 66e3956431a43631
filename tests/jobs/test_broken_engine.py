"""A GPU that fails every batch: `/health` says so, and in the end the service gives up."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.in_process import InProcess, in_process
from tests.inference.test_engine import Broken
from tests.service import python_path, running_service
from tests.waiting import eventually

FAILING = """
import sys
if "serve" in sys.argv or "serve" in sys.orig_argv:
    import app.inference.model as model
    def answer(self, prompts):
        raise RuntimeError("the GPU has gone")
    model.ServedModel.answer = answer
"""


def _break(menny: InProcess) -> Broken:
    engine = menny.app.state.engine
    broken = Broken()
    engine.install(replace(engine.served, model=broken))
    for _ in range(3):
        assert menny.client.post("/transform", json={"query": "MeM"}).status_code == 500
    return broken


def test_an_engine_whose_every_batch_fails_is_said_and_ends_the_service() -> None:
    with in_process(exit_when_failing_s=0.5, answers="model") as menny:
        assert menny.client.get("/health").status_code == 200
        _break(menny)
        health = menny.client.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "unavailable"
        assert "every batch has failed for" in health.json()["reason"]
        eventually(lambda: menny.app.state.lifecycle.has_failed)


def test_a_service_whose_every_batch_fails_ends_with_status_1_to_be_started_anew(
    tmp_path: Path,
) -> None:
    with running_service(
        PYTHONPATH=python_path(tmp_path, FAILING),
        MENNY_ANSWERS="model",
        MENNY_EXIT_WHEN_FAILING_S="0.2",
    ) as service:
        for _ in range(3):
            response = service.client.post("/transform", json={"query": "MeM"})
            assert response.status_code == 500
        service.client.close()
        assert service.process.wait(60) == 1
    assert "the service ends" in service.log


@pytest.mark.parametrize("limit", [0, 3600])
def test_an_engine_that_recovers_is_well_again(limit: float, monkeypatch) -> None:
    monkeypatch.setattr("app.lifespan.WATCH_S", 0.05)
    with in_process(exit_when_failing_s=limit, answers="model") as menny:
        broken = _break(menny)
        time.sleep(0.3)  # some looks at it
        assert menny.client.get("/health").status_code == 503
        broken.is_mended = True
        eventually(lambda: menny.client.get("/health").status_code == 200)  # though nobody asks
        assert not menny.app.state.lifecycle.has_failed
