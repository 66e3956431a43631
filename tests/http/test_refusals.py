"""What the wire refuses by itself, and that its refusals are problem documents like all others."""

import json
import re
import time
from contextlib import suppress

import pytest

from app.http.json import loads
from tests.http.wire import Wire
from tests.raw_http import Connection, exchange


def problem_of(wire: Wire, request: bytes) -> tuple[int, dict[str, object], dict[str, str]]:
    reply = exchange(wire, request)
    assert reply.headers["content-type"] == "application/problem+json", reply
    return reply.status, json.loads(reply.body), reply.headers


def head(*headers: str, target: str = "POST /transform", version: str = "1.1") -> bytes:
    lines = [f"{target} HTTP/{version}", "Host: localhost", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET\r\n\r\n", head("X-Large: " + "x" * 20_000)],
    ids=["nonsense", "headers that are too large"],
)
def test_an_answer_of_the_connection_itself_has_a_request_id(
    wire: Wire, request_bytes: bytes
) -> None:
    _, problem, headers = problem_of(wire, request_bytes)
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    assert problem["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "gzip,chunked", "identity, chunked", "chunked, chunked"]
)
def test_a_transfer_coding_besides_chunked_is_refused(wire: Wire, coding: str) -> None:
    status, problem, headers = problem_of(wire, head(f"Transfer-Encoding: {coding}") + b"0\r\n\r\n")
    assert status in {400, 501}
    assert headers["connection"] == "close"
    assert problem["detail"]


def test_two_transfer_codings_in_two_headers_are_refused(wire: Wire) -> None:
    request = head("Transfer-Encoding: gzip", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    status, *_ = problem_of(wire, request)
    assert status == 400


@pytest.mark.parametrize("version", ["2.0", "0.9"])
def test_another_version_of_http_is_refused(wire: Wire, version: str) -> None:
    request = head(target="GET /health/live", version=version)
    status, problem, headers = problem_of(wire, request)
    assert status in {400, 505}
    assert "HTTP/1.1" in str(problem["detail"])
    assert headers["connection"] == "close"


@pytest.mark.parametrize("byte_range", ["bytes=abc", "bytes=99999999-", "bytes=5-1", "bytes=0-9"])
@pytest.mark.parametrize("path", ["/static-offline-docs/swagger-ui.css", "/playground/menny.css"])
def test_a_wish_for_a_part_of_a_file_is_left_out_of_account(
    wire: Wire, path: str, byte_range: str
) -> None:
    reply = exchange(wire, head(f"Range: {byte_range}", target=f"GET {path}"))
    assert reply.status == 200
    assert reply.headers["accept-ranges"] == "none"
    assert len(reply.body) == int(reply.headers["content-length"])


@pytest.mark.parametrize(
    "body",
    [b"[" * 262_000, b"[" + b"[]," * 87_000 + b"[]]", b"{}" * 131_000, b'"' * 262_000],
    ids=["deep", "wide", "many", "quotes"],
)
def test_no_body_holds_the_event_loop_for_long(body: bytes) -> None:
    began = time.thread_time()
    with suppress(ValueError):
        loads(body)
    assert time.thread_time() - began < 0.1


SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = f"Content-Length: {len(SMUGGLED)}"


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked", "Content-Length: 6") + b"0\r\n\r\n" + SMUGGLED,
        head("Content-Length: 0", LENGTH) + SMUGGLED,
        head(LENGTH, LENGTH) + SMUGGLED,
        head(f"Content-Length: 0, {len(SMUGGLED)}") + SMUGGLED,
        head(f"Content-Length: +{len(SMUGGLED)}") + SMUGGLED,
        head(f"Content-Length : {len(SMUGGLED)}") + SMUGGLED,
        head("Content-Length: 0x10") + SMUGGLED,
        head("X-Folded: one", f" {LENGTH}") + SMUGGLED,
        head("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding : chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"0x0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"1\r\n{0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"-1\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"1\n{\n0\n\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"1;a\nb\r\n{\r\n0\r\n\r\n" + SMUGGLED,
        head("X-Bare: a\nTransfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("X-Bare: a\rTransfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("X-Nul: a\0b", LENGTH) + SMUGGLED,
        head(LENGTH).replace(b"\r\n", b"\n") + SMUGGLED,
    ],
    ids=lambda request: repr(request.split(b"close")[-1][:60]),
)
def test_a_request_that_two_readers_could_end_at_two_places_is_refused(
    wire: Wire, request_bytes: bytes
) -> None:
    answers = raw_answers(wire, request_bytes)
    assert re.match(rb"HTTP/1\.1 (400|501) ", answers), answers
    assert len(re.findall(rb"HTTP/1\.1 \d", answers)) == 1  # and what came after it is no request


def raw_answers(wire: Wire, request_bytes: bytes) -> bytes:
    with Connection(wire) as connection:
        connection.send(request_bytes)
        return connection.read_to_the_end()
