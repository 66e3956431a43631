"""Several requests on one connection: each gets its own answer, whatever the others do."""

import asyncio
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.responses import StreamingResponse

from tests.http.wire import Wire, serving
from tests.raw_http import Connection

BODY = b'{"query": "MeM"}'
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST_HEAD = (
    b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)
LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with serving(body_timeout_s=1.0, header_timeout_s=30, keep_alive_s=30) as running:
        yield running
        assert "Traceback" not in running.log, running.log


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def test_a_post_whose_body_comes_late_leaves_the_requests_before_it_their_answers(
    wire: Wire,
) -> None:
    with Connection(wire) as connection:
        connection.send(GET * 3 + POST_HEAD)
        time.sleep(0.2)
        connection.send(BODY + LAST)
        assert statuses(connection.read_to_the_end()) == [200] * 5


def test_a_refused_request_without_its_body_behind_another_gets_its_refusal_and_no_traceback(
    wire: Wire,
) -> None:
    foreign = POST_HEAD.replace(b"localhost", b"elsewhere.example")
    with Connection(wire) as connection:
        connection.send(GET + foreign)
        assert statuses(connection.read_to_the_end()) == [200, 421]
    assert "Traceback" not in wire.log


def test_a_request_that_never_gets_its_body_writes_nothing_into_the_answer_before_it(
    wire: Wire,
) -> None:
    async def slow_stream() -> object:
        for number in range(6):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(0.5)

    async def stream() -> StreamingResponse:
        return StreamingResponse(slow_stream(), media_type="text/event-stream")

    wire.app.add_api_route("/stream", stream)
    with Connection(wire) as connection:
        connection.send(GET.replace(b"/health/live", b"/stream") + POST_HEAD)
        data = connection.read_to_the_end()
    first, end, second = data.partition(b"0\r\n\r\n")
    assert end
    assert first.count(b"data: ") == 6
    assert statuses(first) == [200]
    assert statuses(second) == [408]  # its time begins when its turn has come


def test_sizes_of_requests_whose_segments_end_within_a_header_are_their_own(wire: Wire) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Padding: %b\r\n\r\n" % (
        b"x" * 400
    )
    stream = request * 100 + LAST  # 45 KB in all, with a limit of 16 KB
    thirds = [len(request) * third // 3 for third in range(1, 300)]
    cuts = [cut + (40 if cut % len(request) == 0 else 0) for cut in thirds]
    with Connection(wire) as connection:
        for begin, end in itertools.pairwise([0, *cuts, len(stream)]):
            connection.send(stream[begin:end])
            time.sleep(0.002)
        assert statuses(connection.read_to_the_end()) == [200] * 101


def test_a_large_header_behind_a_small_request_is_431(wire: Wire) -> None:
    large = GET.replace(b"\r\n\r\n", b"\r\nX-Large: " + b"x" * 17_000 + b"\r\n\r\n")
    with Connection(wire) as connection:
        connection.send(GET + large)
        assert statuses(connection.read_to_the_end()) == [200, 431]


def test_nonsense_within_a_body_behind_another_request_leaves_that_its_answer(wire: Wire) -> None:
    chunked = POST_HEAD.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked")
    wire.app.state.responder.delay_s = 0.2
    try:
        with Connection(wire) as connection:
            connection.send(POST_HEAD + BODY + chunked + b"nonsense\r\n")
            assert statuses(connection.read_to_the_end()) == [200, 400]
    finally:
        wire.app.state.responder.delay_s = 0.0


def test_a_thousand_requests_a_hundred_at_once_are_all_answered_in_order(wire: Wire) -> None:
    queries = [b"abcde"[: number % 5 + 1] for number in range(1000)]
    bodies = [b'{"query": "%b"}' % query for query in queries]
    requests = [
        POST_HEAD.replace(b"Content-Length: 16", b"Content-Length: %d" % len(body)) + body
        for body in bodies
    ]
    data = b""
    with Connection(wire) as connection:
        for begin in range(0, 1000, 100):  # so many may wait, should this client be slow to read
            connection.send(b"".join(requests[begin : begin + 100]))
            while data.count(b"HTTP/1.1 ") < begin + 100:
                data += connection.read_until(b"}")
    assert statuses(data) == [200] * 1000
    assert re.findall(rb'"query":"(\w+)"', data) == queries


def test_no_more_than_100_requests_of_a_connection_wait_for_their_turn(wire: Wire) -> None:
    wire.app.state.responder.delay_s = 0.2
    try:
        with Connection(wire) as connection:
            connection.send(POST_HEAD + BODY + GET * 200)
            data = connection.read_to_the_end()
    finally:
        wire.app.state.responder.delay_s = 0.0
    assert statuses(data) == [200] * 101 + [503]
    assert b"retry-after: 1\r\n" in data.rpartition(b"HTTP/1.1 503")[2].lower()


@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\nHo", POST_HEAD], ids=repr)
def test_who_closes_its_half_after_a_request_still_gets_the_answer(
    wire: Wire, behind: bytes
) -> None:
    wire.app.state.responder.delay_s = 0.1
    try:
        with Connection(wire) as connection:
            connection.send(POST_HEAD + BODY + behind)
            connection.socket.shutdown(socket.SHUT_WR)
            data = connection.read_to_the_end()
    finally:
        wire.app.state.responder.delay_s = 0.0
    assert statuses(data) == [200]
    assert json.loads(data.partition(b"\r\n\r\n")[2])["response"] == "uUu"
