"""Which names the service goes by: everything else is what a rebound name would look like."""

import json

import pytest

from app.admin_token import AdminGuard
from tests.cli.command import menny
from tests.http.wire import Wire, serving
from tests.raw_http import Connection, exchange
from tests.retraining import TOKEN
from tests.service import Service

OWN = [
    "localhost",
    "localhost:8000",
    "LOCALHOST",
    "localhost.",
    "menny.localhost",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.1.2.3",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
]
NOT_OURS = [
    "elsewhere.example",
    "elsewhere.example:8000",
    "localhost.elsewhere.example",
    "notlocalhost",
    "127.0.0.1.elsewhere.example",
    "0.0.0.0",  # noqa: S104 - a name
    "192.168.0.1",
    "[::]",
    "[2001:db8::1]",
    "2130706433",
    "0x7f000001",
]
MALFORMED = [
    "",
    " ",
    ":8000",
    "::1",
    "[::1",
    "[]",
    "[not:an:address]",
    "[::1%25lo]",
    "localhost:port",
    "localhost:8000:8000",
    "local host",
    "localhost/",
    "user@localhost",
    "localhost,localhost",
    "http://localhost",
    "l\xf6calhost",
    "-",
    ".",
]


def ask(service: Wire | Service, *hosts: str, version: str = "1.1", target: str = "/health/live"):
    lines = [f"GET {target} HTTP/{version}", *(f"Host: {host}" for host in hosts)]
    return exchange(
        service, ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1")
    )


def assert_refused(reply, status: int) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    problem = json.loads(reply.body)
    assert problem["status"] == status
    assert "Host header" in problem["detail"]


@pytest.mark.parametrize("host", OWN)
def test_loopback_by_any_of_its_names_is_answered(wire: Wire, host: str) -> None:
    assert ask(wire, host).status == 200


@pytest.mark.parametrize("host", NOT_OURS)
def test_a_request_for_another_host_is_421(wire: Wire, host: str) -> None:
    assert_refused(ask(wire, host), 421)


@pytest.mark.parametrize("host", MALFORMED)
def test_a_host_that_is_none_is_400(wire: Wire, host: str) -> None:
    assert_refused(ask(wire, host), 400)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_no_host_is_400(wire: Wire, version: str) -> None:
    assert_refused(ask(wire, version=version), 400)


def test_two_hosts_are_400_even_if_both_are_ours(wire: Wire) -> None:
    assert_refused(ask(wire, "localhost", "localhost"), 400)


def test_the_host_of_a_whole_url_counts_and_not_the_header(wire: Wire) -> None:
    assert ask(wire, "elsewhere.example", target="http://localhost/health/live").status == 200
    refused = ask(wire, "localhost", target="http://elsewhere.example/health/live")
    assert_refused(refused, 421)


def test_an_upgrade_does_not_slip_by(wire: Wire) -> None:
    for upgrade in ("websocket", "h2c", "TLS/1.0"):
        request = (
            "GET /health/live HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade, close\r\n"
            f"Upgrade: {upgrade}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        assert_refused(exchange(wire, request.format("elsewhere.example").encode()), 421)
        # Ours is answered as if it had not asked for one (RFC 9110, 7.8).
        assert exchange(wire, request.format("localhost").encode()).status == 200


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_a_wish_for_another_protocol_costs_a_request_neither_body_nor_connection(
    wire: Wire, pieces: int
) -> None:
    # curl --http2 and Java's HttpClient ask for h2c with the first request of each connection.
    body = b'{"query": "MeM"}'
    wish = (
        b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    last = wish.replace(b"HTTP2-Settings\r", b"close\r")
    requests = wish + wish + last
    size = -(-len(requests) // pieces)
    with Connection(wire) as connection:
        for start in range(0, len(requests), size):
            connection.send(requests[start : start + size])
        answers = connection.read_to_the_end()
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"query":"MeM"') == 3


def test_what_follows_a_body_is_no_header(wire: Wire) -> None:
    head = (
        b"POST /models/shipped/activate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    trailers = f"0\r\nAuthorization: Bearer {TOKEN}\r\nHost: elsewhere.example\r\n\r\n"
    wire.app.state.admin = AdminGuard(TOKEN)
    assert exchange(wire, head + trailers.encode()).status == 401


def test_allowed_hosts_are_answered_and_nothing_else() -> None:
    with serving(allowed_hosts="menny.example.org, *.menny.test,[2001:db8::1]") as s:
        for host in (
            "menny.example.org",
            "MENNY.example.org:8000",
            "a.menny.test",
            "b.a.menny.test",
            "[2001:DB8:0::1]:80",
            "localhost",
        ):
            assert ask(s, host).status == 200
        for host in ("example.org", "x.menny.example.org", "menny.test", "xmenny.test"):
            assert_refused(ask(s, host), 421)
        assert_refused(ask(s, "*.menny.test"), 400)


def test_a_star_allows_every_name_but_nothing_malformed() -> None:
    with serving(allowed_hosts="*") as wire:
        assert ask(wire, "elsewhere.example").status == 200
        assert_refused(ask(wire, ""), 400)


@pytest.mark.parametrize("name", ["http://menny", "menny:8000", "a b", "a.*.b", "[::x]", "[1]"])
def test_an_allowed_host_that_is_none_is_refused_at_start(name: str) -> None:
    result = menny("serve", "--port", "0", MENNY_ALLOWED_HOSTS=name)
    assert result.status == 2
    assert "MENNY_ALLOWED_HOSTS" in result.stderr
    assert "Traceback" not in result.stderr
