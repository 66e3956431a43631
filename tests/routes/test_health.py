from pathlib import Path

import httpx
import pytest

from tests.in_process import InProcess, in_process
from tests.service import Service, running_service
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS, load_weights, save_weights


def test_health_tells_which_model_answers_and_how_good_it_is(menny: InProcess) -> None:
    response = menny.client.get("/health")
    weights = load_weights(SHIPPED_WEIGHTS)
    assert weights.card is not None
    assert response.status_code == 200
    health = response.json()
    assert health["status"] == "ok"
    assert health["model_version"] == weights.version
    assert health["rule_accuracy"] == weights.card.metrics.rule_accuracy
    assert health["device"] in {"cpu", "gpu"}
    assert health["uptime_seconds"] > 0


def test_the_process_says_that_it_is_alive(menny: InProcess) -> None:
    response = menny.client.get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def damaged_weights(path: Path) -> Path:
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:-1000])
    return path


@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_without_loadable_weights_the_service_starts_and_says_why_it_cant_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "weights.npz"
    if kind == "damaged":
        damaged_weights(path)
    with in_process(weights=path) as service:
        health = service.client.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "unavailable"
        assert service.client.get("/health/live").status_code == 200
        transform = service.client.post("/transform", json={"query": RULE.example})
        assert transform.status_code == 503
        assert transform.headers["content-type"] == "application/problem+json"
        reasons = [health.json()["reason"], transform.json()["detail"]]
        for reason in reasons:
            assert "menny train" in reason
            assert ("no such file" if kind == "missing" else "not an .npz") in reason
    assert "Traceback" not in caplog.text


def test_weights_without_a_card_serve_and_claim_no_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "menny_model_weights.npz"
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes())
    with in_process(weights=path) as service:
        assert service.client.get("/health").json()["rule_accuracy"] is None
        assert service.transform(RULE.example)["model_version"] == load_weights(path).version


def test_the_weights_named_by_the_environment_are_served(tmp_path: Path) -> None:
    shipped = load_weights(SHIPPED_WEIGHTS)
    assert shipped.card is not None
    path = tmp_path / "other.npz"
    bias = shipped.parameters["fc.bias"] + 0.125
    card = save_weights(path, dict(shipped.parameters) | {"fc.bias": bias}, shipped.card)
    with in_process(weights=path) as service:
        assert service.transform(RULE.example)["model_version"] == card.sha256[:12]


def test_a_second_service_on_the_same_port_says_that_it_is_taken(service: Service) -> None:
    port = httpx.URL(service.url).port
    with (
        pytest.raises(AssertionError, match=rf"can't listen on 127.0.0.1 port {port}.*--port"),
        running_service("--port", str(port)),
    ):
        pass
