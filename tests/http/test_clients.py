"""Clients that nobody here wrote see every answer."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from tests.http.wire import Wire


def test_http_client_sees_the_413_for_a_body_that_is_far_too_large(wire: Wire) -> None:
    for _ in range(5):
        connection = http.client.HTTPConnection(str(urlsplit(wire.url).netloc), timeout=30)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/transform", b" " * 5_000_000, headers)
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["status"] == 413
        connection.close()


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/health/live", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(wire: Wire, path: str) -> None:
    whole, head = wire.client.get(path), wire.client.head(path)
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    if path != "/health":  # whose seconds of uptime may have had a digit less
        assert head.headers["content-length"] == whole.headers["content-length"]
    assert wire.client.get(path).status_code == 200  # and the connection goes on


def test_head_of_what_is_only_for_posts_is_405(wire: Wire) -> None:
    response = wire.client.head("/transform")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
