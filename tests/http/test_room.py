"""Who makes room when there are as many connections as there may be."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.http.server import RESERVED_DESCRIPTORS, room_for_connections
from tests.http.wire import Wire, serving
from tests.raw_http import Connection, parsed
from tests.service import Service, running_service
from tests.waiting import eventually
from training.rule import RULE

LIMIT = 20
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: loc"
LARGE = (
    b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"  # 1.5 MB
)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving(max_connections=LIMIT, header_timeout_s=60) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as connections:
        yield connections


def has_ended(connection: Connection) -> bool:
    connection.socket.setblocking(False)
    try:
        return connection.socket.recv(1) == b""
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


def asked(connection: Connection, path: str = "/health/live") -> int | None:
    """The status of an answer that leaves the connection open."""
    connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return parsed(connection.socket.recv(65536)).status


def ask_alone(service: Wire | Service) -> int | None:
    """On a connection of its own."""
    with Connection(service) as connection:
        return asked(connection, "/health")


def test_those_that_idle_between_two_requests_make_room_at_once(
    wire: Wire, stack: ExitStack
) -> None:
    for _ in range(LIMIT):
        assert asked(stack.enter_context(Connection(wire))) == 200
    assert wire.connections == LIMIT
    for _ in range(15):
        assert asked(stack.enter_context(Connection(wire))) == 200
    assert wire.connections <= LIMIT + 1


def test_those_that_have_not_said_a_word_make_room_after_a_moment(
    wire: Wire, stack: ExitStack
) -> None:
    for _ in range(LIMIT):
        stack.enter_context(Connection(wire))
    eventually(lambda: wire.connections == LIMIT)
    time.sleep(0.15)
    assert ask_alone(wire) == 200


def test_those_that_do_not_read_make_room_before_those_that_are_slow_to_send(
    wire: Wire, stack: ExitStack
) -> None:
    slow = [stack.enter_context(Connection(wire)) for _ in range(LIMIT // 2)]
    for connection in slow:
        connection.send(HALF_A_HEAD)
    deaf = [stack.enter_context(Connection(wire, receive_buffer=4096)) for _ in range(LIMIT // 2)]
    for connection in deaf:
        connection.send(LARGE * 50)
    eventually(
        lambda: (
            sum(c.unsent_since is not None for c in list(wire.server.server_state.connections))
            == 10
        )
    )
    time.sleep(1.2)  # all have had their chance
    for _ in range(len(deaf)):
        assert asked(stack.enter_context(Connection(wire))) == 200
    assert not any(map(has_ended, slow))


def test_what_the_kernel_keeps_for_a_client_that_does_not_read_is_bounded(wire: Wire) -> None:
    with Connection(wire, receive_buffer=4096) as connection:
        connection.send(LARGE * 50)
        eventually(lambda: wire.connections == 1)
        (held,) = wire.server.server_state.connections
        eventually(lambda: held.flow.write_paused)
        accepted = held.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2**19


def test_when_all_connections_are_slow_the_slowest_makes_room(wire: Wire, stack: ExitStack) -> None:
    slow = [stack.enter_context(Connection(wire)) for _ in range(LIMIT)]
    for connection in slow:
        connection.send(HALF_A_HEAD)
    eventually(lambda: wire.connections == LIMIT)
    time.sleep(1.2)  # they have had their chance
    for _ in range(5):
        assert ask_alone(wire) == 200
    assert sum(map(has_ended, slow)) == 1


def test_where_none_can_be_missed_a_new_one_gets_503_at_once_with_a_time_to_come_back(
    wire: Wire, stack: ExitStack
) -> None:
    for _ in range(LIMIT):
        stack.enter_context(Connection(wire)).send(HALF_A_HEAD)
    eventually(lambda: wire.connections == LIMIT)
    with Connection(wire) as another:
        reply = another.reply()
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert b"too many connections" in reply.body


def test_a_mac_s_256_descriptors_are_raised_to_what_the_connections_need() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert room_for_connections(150) == 150
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300 + RESERVED_DESCRIPTORS, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_mac_s_256_descriptors_are_no_limit_and_where_they_are_the_slowest_makes_room() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    with running_service(before_exec=limited) as service, ExitStack() as connections:
        assert "file descriptors for 80 connections" in service.log
        assert ask_alone(service) == 200  # it has started and accepts
        for _ in range(80):
            connections.enter_context(Connection(service)).send(HALF_A_HEAD)
        time.sleep(1.2)  # they have had their chance
        for _ in range(5):
            assert ask_alone(service) == 200


def test_the_openapi_document_asked_for_again_and_again_costs_nobody_an_answer() -> None:
    many = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
    with serving() as wire, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(Connection(wire, receive_buffer=4096)).send(many)
        began = time.monotonic()
        assert wire.client.post("/transform", json={"query": RULE.example}).status_code == 200
        assert time.monotonic() - began < 10
        assert wire.app.openapi_json() is wire.app.openapi_json()  # and so made once
