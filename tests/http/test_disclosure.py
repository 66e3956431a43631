"""Errors say what is wrong, and nothing of the machine: no path, no token, no traceback."""

import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.http.wire import Wire, stubbed
from tests.in_process import InProcess, in_process
from tests.raw_http import exchange
from tests.retraining import ADMIN, TOKEN
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS

SECRET_LOOKS = re.compile(
    r"Traceback|File \"|\.py\b|line \d+, in|site-packages|0x[0-9a-f]{6}"
    r"|/(tmp|home|root|usr|Users|private)/"
)

REQUESTS: list[tuple[str, str, dict[str, object]]] = [
    ("GET", "/nothing", {}),
    ("GET", "/../../etc/passwd", {}),
    ("GET", "/static-offline-docs/../core.py", {}),
    ("GET", "/static-offline-docs/%2e%2e/core.py", {}),
    ("GET", "/static-offline-docs/%2e%2e%2f%2e%2e%2fpip/__init__.py", {}),
    ("PUT", "/transform", {}),
    ("POST", "/transform", {"content": b"{"}),
    ("POST", "/transform", {"json": {"query": "123456"}}),
    ("POST", "/transform", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("POST", "/transform", {"headers": {"Content-Encoding": "gzip"}}),
    ("POST", "/transform", {"headers": {"Origin": "null"}}),
    ("POST", "/transform", {"content": b" " * 300_000}),
    ("GET", "/health", {"headers": {"Host": "elsewhere.example"}}),
    ("GET", "/health", {"headers": {"Host": "("}}),
    ("GET", "/train", {}),
    ("GET", "/train", {"headers": {"Authorization": "Bearer wrong"}}),
    ("GET", "/train", {"headers": {"Authorization": "Basic eDp5"}}),
    ("GET", "/train?limit=x", {"headers": ADMIN}),
    ("GET", "/train/99", {"headers": ADMIN}),
    ("DELETE", "/train/99", {"headers": ADMIN}),
    ("GET", "/train/99/events", {"headers": ADMIN}),
    ("POST", "/train", {"headers": ADMIN, "json": {"num_samples": 1}}),
    ("GET", "/models/..%2f..%2fetc", {"headers": ADMIN}),
    ("POST", "/models/0123456789ab/activate", {"headers": ADMIN}),
    ("DELETE", "/models/shipped", {"headers": ADMIN}),
]


def ask_everything(service: InProcess) -> Iterator[tuple[str, httpx.Response]]:
    for method, path, options in REQUESTS:
        yield f"{method} {path}", service.client.request(method, path, **options)


def assert_discreet(text: str, *secrets: str | Path) -> None:
    assert not SECRET_LOOKS.search(text), text
    for secret in (TOKEN, Path.cwd(), Path.home(), sys.prefix, SHIPPED_WEIGHTS.parent, *secrets):
        assert str(secret) not in text, text


def assert_all_are_discreet(service: InProcess, *secrets: str | Path) -> list[int]:
    statuses = []
    for name, response in ask_everything(service):
        assert response.status_code >= 400, name
        assert response.headers["content-type"] == "application/problem+json", name
        assert_discreet(f"{response.headers} {response.text}", *secrets)
        statuses.append(response.status_code)
    assert_discreet(service.client.get("/health").text, *secrets)
    return statuses


def test_no_error_shows_a_path_a_token_or_a_traceback(tmp_path: Path) -> None:
    with in_process(admin_token=TOKEN, state_dir=tmp_path) as service:
        statuses = assert_all_are_discreet(service, tmp_path)
        assert {400, 401, 403, 404, 405, 409, 413, 415, 421, 422} <= set(statuses)


def test_no_refusal_of_the_wire_shows_a_path_or_a_traceback(wire: Wire) -> None:
    for garbage in (b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000):
        reply = exchange(wire, garbage)
        assert reply.status in {400, 431}
        assert_discreet(f"{reply.headers} {reply.body!r}")


def _no_database(state: Path) -> None:
    (state / "menny.sqlite3").write_bytes(b"not a database at all" * 100)


def _newer_database(state: Path) -> None:
    with sqlite3.connect(state / "menny.sqlite3") as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def _bad_token(state: Path) -> None:
    (state / "admin_token").write_text("short")


@pytest.mark.parametrize("damage", [_no_database, _newer_database, _bad_token])
def test_no_error_shows_where_a_damaged_state_directory_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage
) -> None:
    state = tmp_path / "a folder with spaces"
    state.mkdir()
    damage(state)
    token = {} if damage is _bad_token else {"admin_token": TOKEN}
    with in_process(state_dir=state, **token) as service:
        statuses = assert_all_are_discreet(service, tmp_path, state)
        assert 503 in statuses
        assert str(state) in caplog.text  # which is the owner's


def test_no_error_shows_where_weights_are_that_can_t_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "damaged.npz"
    weights.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:1000])
    with in_process(weights=weights) as service:
        response = service.client.post("/transform", json={"query": RULE.example})
        assert response.status_code == 503
        assert "damaged.npz" in response.json()["detail"]
        for text in (response.text, service.client.get("/health").text):
            assert_discreet(text, tmp_path)
        assert str(weights) in caplog.text


@pytest.mark.parametrize(
    ("path", "body"),
    [("/transform", {"query": RULE.example}), ("/transform/batch", {"queries": ["a"]})],
)
def test_no_bug_shows_what_it_says(path: str, body: dict[str, object]) -> None:
    with stubbed() as service:
        service.app.state.responder.error = RuntimeError(f"{TOKEN} in /tmp/secret/place.py")
        response = service.client.post(path, json=body)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert "content-security-policy" in response.headers
    assert_discreet(f"{response.headers} {response.text}")
