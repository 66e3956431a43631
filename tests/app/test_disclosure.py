"""Errors say what is wrong, and nothing of the machine: no path, no token, no traceback."""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.command import MENNY
from tests.raw_http import exchange
from tests.retraining import ADMIN, TOKEN, retrainable_service
from tests.service import Service, running_service
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


def ask_everything(service: Service) -> Iterator[tuple[str, httpx.Response]]:
    for method, path, options in REQUESTS:
        yield f"{method} {path}", service.client.request(method, path, **options)


def assert_discreet(text: str, *secrets: str | Path) -> None:
    assert not SECRET_LOOKS.search(text), text
    for secret in (TOKEN, Path.cwd(), Path.home(), sys.prefix, SHIPPED_WEIGHTS.parent, *secrets):
        assert str(secret) not in text, text


def assert_all_are_discreet(service: Service, *secrets: str | Path) -> list[int]:
    statuses = []
    for name, response in ask_everything(service):
        assert response.status_code >= 400, name
        assert response.headers["content-type"] == "application/problem+json", name
        assert_discreet(f"{response.headers} {response.text}", *secrets)
        statuses.append(response.status_code)
    assert_discreet(service.client.get("/health").text, *secrets)
    return statuses


def test_no_error_shows_a_path_a_token_or_a_traceback(tmp_path: Path) -> None:
    with retrainable_service(tmp_path) as service:
        statuses = assert_all_are_discreet(service, tmp_path)
        assert {400, 401, 403, 404, 405, 409, 413, 415, 421, 422} <= set(statuses)
        for garbage in (b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000):
            reply = exchange(service, garbage)
            assert reply.status in {400, 431}
            assert_discreet(f"{reply.headers} {reply.body!r}", tmp_path)


def _no_database(state: Path) -> None:
    (state / "menny.sqlite3").write_bytes(b"not a database at all" * 100)


def _newer_database(state: Path) -> None:
    with sqlite3.connect(state / "menny.sqlite3") as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def _bad_token(state: Path) -> None:
    (state / "admin_token").write_text("short")


@pytest.mark.parametrize("damage", [_no_database, _newer_database, _bad_token])
def test_nor_does_it_when_the_state_directory_is_damaged(tmp_path: Path, damage) -> None:
    state = tmp_path / "a folder with spaces"
    state.mkdir()
    damage(state)
    token = {} if damage is _bad_token else {"MENNY_ADMIN_TOKEN": TOKEN}
    with running_service(MENNY_STATE_DIR=state, **token) as service:
        statuses = assert_all_are_discreet(service, tmp_path, state)
        assert 503 in statuses
        assert str(state) in service.log  # which is the owner's


def test_nor_does_it_when_there_is_no_model(tmp_path: Path) -> None:
    weights = tmp_path / "damaged.npz"
    weights.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:1000])
    with running_service("--weights", str(weights)) as service:
        response = service.client.post("/transform", json={"query": "MeM"})
        assert response.status_code == 503
        assert "damaged.npz" in response.json()["detail"]
        for text in (response.text, service.client.get("/health").text):
            assert_discreet(text, tmp_path)
        assert str(weights) in service.log


@contextmanager
def broken_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The real command, but its engine fails on every batch, with a telling message."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN_ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert MENNY[0] == sys.executable
    with running_service() as service:
        yield service


BROKEN_ENGINE = f'''
from app.inference.answers import Responder

async def respond(self, *arguments):
    raise RuntimeError("{TOKEN} in /tmp/secret/place.py")

Responder.respond = respond
'''


def test_nor_does_it_when_the_engine_is_broken(tmp_path: Path, monkeypatch) -> None:
    with broken_service(tmp_path, monkeypatch) as service:
        for path, body in (
            ("/transform", {"query": "MeM"}),
            ("/transform/batch", {"queries": ["a"]}),
        ):
            response = service.client.post(path, json=body)
            assert response.status_code == 500
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["x-request-id"] == response.json()["request_id"]
            assert "content-security-policy" in response.headers
            assert_discreet(f"{response.headers} {response.text}", tmp_path)
        service.stop()
        assert "Traceback" in service.log
