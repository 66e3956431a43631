"""How much, how many and how slow a client may be, over real sockets."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.http.wire import Wire, serving
from tests.raw_http import Connection, Reply, exchange, parsed

MAX_BODY = 2048
MAX_HEADER = 2048
TIMEOUT_S = 0.6


@pytest.fixture(scope="module")
def strict() -> Iterator[Wire]:
    with serving(
        max_body_bytes=MAX_BODY,
        max_header_bytes=MAX_HEADER,
        header_timeout_s=TIMEOUT_S,
        body_timeout_s=TIMEOUT_S,
        write_timeout_s=TIMEOUT_S,
        keep_alive_s=1,
    ) as wire:
        yield wire
        assert "Traceback" not in wire.log, wire.log


def head(*headers: str, method: str = "POST", path: str = "/transform") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return ("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode()


def was_cut_off(connection: Connection, data: bytes, every_s: float = 0) -> bool:
    """Send this again and again; whether the service ended that within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            connection.send(data)
        except (ConnectionResetError, BrokenPipeError):
            return True
        time.sleep(every_s)
    return False


def assert_problem(reply: Reply, status: int, fragment: str) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert fragment in json.loads(reply.body)["detail"]


# --- size -----------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    body = b'{"query": "MeM"}'
    return body + b" " * (size - len(body))


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(strict: Wire) -> None:
    headers = {"Content-Type": "application/json"}
    for size, status in ((MAX_BODY, 200), (MAX_BODY + 1, 413)):
        whole = strict.client.post("/transform", content=padded(size), headers=headers)
        chunked = strict.client.post("/transform", content=iter([padded(size)]), headers=headers)
        assert (whole.status_code, chunked.status_code) == (status, status)
    assert whole.json() == chunked.json() | {"request_id": whole.json()["request_id"]}
    assert whole.headers["connection"] == chunked.headers["connection"] == "close"
    assert "2,048 bytes" in whole.json()["detail"]


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(strict: Wire) -> None:
    reply = exchange(strict, head("Content-Length: 1000000000000", "Expect: 100-continue"))
    assert_problem(reply, 413, "2,048 bytes")


def test_a_body_without_end_is_cut_off_as_soon_as_it_is_too_large(strict: Wire) -> None:
    with Connection(strict) as connection:
        connection.send(head("Transfer-Encoding: chunked"))
        assert was_cut_off(connection, b"1000\r\n" + b" " * 0x1000 + b"\r\n")


def test_the_client_gets_the_413_although_it_is_still_sending(strict: Wire) -> None:
    with Connection(strict) as connection:
        connection.send(head("Transfer-Encoding: chunked"))
        connection.send((b"400\r\n" + b" " * 0x400 + b"\r\n") * 100)
        assert_problem(connection.reply(), 413, "2,048 bytes")


def test_chunk_extensions_and_trailers_are_not_without_limit_either(strict: Wire) -> None:
    with Connection(strict) as connection:
        connection.send(head("Transfer-Encoding: chunked"))
        connection.send(b"1;" + b"x" * (MAX_HEADER + 9 * MAX_BODY))
        assert_problem(connection.reply(), 413, "2,048 bytes")


@pytest.mark.parametrize("path", ["/nothing", "/health"])
def test_a_body_that_nobody_wants_is_not_waited_for(strict: Wire, path: str) -> None:
    with Connection(strict) as connection:
        connection.send(head("Content-Length: 2000", path=path))
        began = time.monotonic()
        assert connection.reply().status in {404, 405}
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "request_head",
    [
        head("X-Large: " + "x" * MAX_HEADER),
        head(*(f"X-Header-{number}: x" for number in range(MAX_HEADER // 14))),
        head(path="/" + "x" * MAX_HEADER),
        b"GET /" + b"x" * 2 * MAX_HEADER,
        b"GET / HTTP/1.1\r\nX-Without-End: " + b"x" * 2 * MAX_HEADER,
        b"GET / HTTP/1.1\r\nX-Without-End: " + b"x" * 1_000_000,
    ],
    ids=["one", "many", "target", "endless target", "endless header", "megabyte"],
)
def test_headers_that_are_too_large_are_431(strict: Wire, request_head: bytes) -> None:
    assert_problem(exchange(strict, request_head), 431, "2,048 bytes")


def test_headers_just_below_the_limit_are_taken(strict: Wire) -> None:
    response = strict.client.get("/health/live", headers={"X-Large": "x" * (MAX_HEADER - 300)})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "request_head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\n",
        b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_not_in_the_log(strict: Wire, request_head: bytes) -> None:
    before = strict.log
    assert_problem(exchange(strict, request_head), 400, "not an HTTP/1.1 request")
    assert strict.log == before


def test_a_bad_request_behind_a_good_one_leaves_it_its_answer(strict: Wire) -> None:
    body = b'{"query": "MeM"}'
    good = head(f"Content-Length: {len(body)}") + body
    reply = exchange(strict, good + b"nonsense\r\n\r\n")
    assert reply.status == 200
    assert b'{"query":"MeM"' in reply.body
    assert b"HTTP/1.1 400 " in reply.body  # and it gets its own


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: local", 408),
        (head("Content-Length: 100") + b"{", 408),
        (head("Transfer-Encoding: chunked") + b"1\r\n{\r\n", 408),
    ],
    ids=["nothing", "empty line", "half of the headers", "half of the body", "half of the chunks"],
)
def test_who_sends_nothing_more_is_dropped(strict: Wire, first: bytes, status: int | None) -> None:
    with Connection(strict) as connection:
        connection.send(first)
        began = time.monotonic()
        reply = connection.reply()
        assert TIMEOUT_S * 0.8 < time.monotonic() - began < TIMEOUT_S + 10
        if status is None or first == b"\r\n":
            assert reply.status in {None, 408}
        else:
            assert_problem(reply, status, "did not arrive within 0.6 seconds")


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"", b"\r\n"),
        (head("Content-Length: 1000"), b" "),
        (head("Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    ],
    ids=["headers", "empty lines", "body", "chunks"],
)
def test_who_sends_a_little_now_and_then_is_dropped_as_well(
    strict: Wire, first: bytes, drop: bytes
) -> None:
    with Connection(strict) as connection:
        connection.send(first)
        assert was_cut_off(connection, drop, every_s=0.05)


def test_a_connection_that_idles_between_two_requests_is_closed(strict: Wire) -> None:
    with Connection(strict) as connection:
        connection.send(head(method="GET", path="/health/live"))
        assert parsed(connection.read_to_the_end()).status == 200


def test_a_stop_leaves_a_client_a_second_for_its_next_request() -> None:
    """It may be slow, or its machine busy: closed sooner, the request would meet no service."""
    with serving() as wire, Connection(wire) as connection:
        began = time.monotonic()
        connection.send(head(method="GET", path="/health/live"))
        connection.read_until(b'{"status":"alive"}')
        wire.server.should_exit = True
        assert connection.read_to_the_end() == b""
        assert time.monotonic() - began >= 1


def test_a_second_request_has_the_time_that_the_first_had(strict: Wire) -> None:
    with Connection(strict) as connection:
        connection.send(head(method="GET", path="/health/live"))
        connection.read_until(b'{"status":"alive"}')
        connection.send(b"GET / HTTP/1.1\r\nHost: local")
        assert_problem(connection.reply(), 408, "headers did not arrive")


def test_who_does_not_take_the_answers_is_dropped(strict: Wire) -> None:
    """One connection asks for large answers for ever and reads none of them."""
    with Connection(strict, receive_buffer=4096) as connection:
        large = head(method="GET", path="/static-offline-docs/swagger-ui-bundle.js")
        assert was_cut_off(connection, large * 20, every_s=0.01)
