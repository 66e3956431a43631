"""Asking the service whether it is healthy, and who else answers at its address."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import ServiceManagerError
from app.service import tools

_POLL_S = 0.2
_TIMEOUT_S = 10.0
_MAX_BYTES = 65_536


@dataclass(frozen=True)
class Answer:
    """What `/health` said."""

    is_menny: bool
    is_healthy: bool
    summary: str


def ask_health(url: str) -> Answer | None:
    """One GET of `/health`; None if nothing listens there."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        body = response.read(_MAX_BYTES)
    except (ConnectionResetError, BrokenPipeError, TimeoutError, http.client.HTTPException):
        return Answer(is_menny=False, is_healthy=False, summary="no answer in HTTP")
    except OSError:
        return None
    finally:
        connection.close()
    try:
        health = json.loads(body)
        status, version = health["status"], health.get("model_version")
    except (ValueError, KeyError, TypeError, AttributeError):
        server = response.headers.get("server")
        named = f" by {server[:80]!r}" if server else ""
        return Answer(False, False, f"HTTP status {response.status}{named}")
    if status != "ok":
        return Answer(True, False, f"{status}: {health.get('reason') or 'no reason given'}")
    proven = ", proven" if health.get("proven") else ""
    return Answer(True, True, f"ok, model {version}{proven}")


def refuse_if_taken(url: str) -> None:
    """Raise `ServiceManagerError` with who it is, if something else listens at the address."""
    answer = ask_health(url)
    if answer is None:
        return
    who = "another Menny" if answer.is_menny else "something that is not Menny"
    raise ServiceManagerError(
        f"{url} is taken: {who} answers there ({answer.summary}){listener_of(urlsplit(url).port)}; "
        "stop it, or take another port with --port"
    )


def wait_until_healthy(url: str, failure: Callable[[], str | None], timeout_s: float) -> str:
    """Wait for a 200 of `/health`; its summary. Raises `ServiceManagerError` with the reason."""
    deadline = time.monotonic() + timeout_s
    seen = "nothing listens there"
    while time.monotonic() < deadline:
        if answer := ask_health(url):
            if answer.is_healthy:
                return answer.summary
            if answer.is_menny:  # she loads her model before she answers: it won't get better
                raise ServiceManagerError(f"{url}/health says {answer.summary}")
            seen = answer.summary
        elif fault := failure():
            raise ServiceManagerError(f"Menny did not start: {fault}")
        time.sleep(_POLL_S)
    raise ServiceManagerError(f"{url}/health is not ok after {timeout_s:.0f} seconds: {seen}")


def listener_of(port: int | None) -> str:
    """The command and process that listen on a port, where `lsof` can tell."""
    asked = ("-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
    try:
        output = tools.run_tool("lsof", *asked, timeout_s=10).stdout
    except ServiceManagerError:
        return ""
    fields = {line[:1]: line[1:] for line in output.splitlines()}
    return f", {fields['c']}, process {fields['p']}" if {"c", "p"} <= fields.keys() else ""
