"""Request ids, metrics and logs, as they are seen from outside."""

import asyncio
import json
import re

import httpx
import pytest

from app.inference.model import ServedModel
from app.main import create_app
from app.settings import Settings
from tests.in_process import InProcess
from tests.service import running_service
from training.rule import RULE


def metric(service: InProcess, name: str, **labels: object) -> float:
    text = service.client.get("/metrics").text
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and wanted <= set((found[1] or "").split(",")):
            return float(found[2])
    return 0.0


def test_metrics_count_requests_by_route_and_status(menny: InProcess) -> None:
    before = metric(menny, "menny_requests_total", route="/transform", status=200)
    bad_before = metric(menny, "menny_requests_total", route="/transform", status=422)
    for _ in range(3):
        menny.transform(RULE.example)
    menny.client.post("/transform", json={"query": ""})
    assert metric(menny, "menny_requests_total", route="/transform", status=200) == before + 3
    assert metric(menny, "menny_requests_total", route="/transform", status=422) == bad_before + 1


def test_metrics_do_not_grow_with_the_paths_that_are_asked_for(menny: InProcess) -> None:
    for number in range(5):
        menny.client.get(f"/nothing/{number}")
    assert "/nothing" not in menny.client.get("/metrics").text
    assert metric(menny, "menny_requests_total", route="none", status=404) >= 5


@pytest.mark.parametrize(
    "name",
    [
        "menny_request_duration_seconds_count",
        "menny_batch_size_count",
        "menny_queue_depth",
        "menny_forward_seconds_sum",
        "menny_answers_total",
        "menny_model_info",
    ],
)
def test_each_metric_is_there(menny: InProcess, name: str) -> None:
    menny.transform(RULE.example)
    assert re.search(rf"^{name}[ {{]", menny.client.get("/metrics").text, re.MULTILINE)


def test_the_model_is_named_in_the_metrics(menny: InProcess) -> None:
    version = menny.transform(RULE.example)["model_version"]
    assert metric(menny, "menny_model_info", version=version) == 1


def test_a_sane_request_id_is_kept_and_another_one_replaced(menny: InProcess) -> None:
    def id_for(given: str | None) -> str:
        headers = {} if given is None else {"X-Request-ID": given}
        return menny.client.get("/health", headers=headers).headers["X-Request-ID"]

    assert id_for("order-66.a_b") == "order-66.a_b"
    for given in (None, "", "x" * 65, "a b", "a;b", "<script>"):
        assert re.fullmatch(r"[0-9a-f]{16}", id_for(given))
    assert id_for(None) != id_for(None)


def test_errors_carry_the_request_id(menny: InProcess) -> None:
    response = menny.client.post("/transform", json={}, headers={"X-Request-ID": "mine"})
    assert response.json()["request_id"] == "mine" == response.headers["X-Request-ID"]


def test_logs_are_json_lines_with_the_request_id_and_a_path_can_forge_none() -> None:
    with running_service(MENNY_LOG_FORMAT="json", MENNY_ACCESS_LOG="1") as service:
        service.client.get("/health", headers={"X-Request-ID": "find-me"})
        service.client.get("/x%0a2026-01-01%2000:00:00,000%20WARNING%20app:%20forged%1b[31m")
        service.stop()
        lines = [json.loads(line) for line in service.log.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert line["message"].startswith("GET /health 200")
    assert line["level"] == "info"
    (line,) = [line for line in lines if "forged" in line["message"]]
    assert "GET /x%0a2026-01-01%20" in line["message"]
    assert "\x1b" not in service.log


def test_an_error_in_the_engine_is_500_with_a_request_id_and_no_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process, for a model can't be made to fail from outside."""

    async def scenario() -> httpx.Response:
        app = create_app(Settings(answers="model"))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost"
            ) as client,
        ):
            with monkeypatch.context() as patch:
                patch.setattr(ServedModel, "logits", lambda *_: {}["secret"])
                failed = await client.post("/transform", json={"query": RULE.example})
            works = await client.post("/transform", json={"query": RULE.example})
            assert works.status_code == 200
            return failed

    failed = asyncio.run(scenario())
    assert failed.status_code == 500
    assert failed.headers["content-type"] == "application/problem+json"
    assert failed.json()["request_id"] == failed.headers["X-Request-ID"]
    assert "secret" not in failed.text
    assert "KeyError: 'secret'" in caplog.text
