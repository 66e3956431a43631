"""Faults of a connection to a primary that only a socket can have."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from app.errors import PrimaryError
from app.replica import primary as primary_module
from app.replica.primary import Primary

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@contextmanager
def server(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accepts one connection, reads what comes first, and sends what `send` does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                with suppress(OSError):  # the client has had enough
                    send(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(30)


def fetch(url: str) -> bytes:
    primary = Primary(url, token=None)
    try:
        return primary.fetch("0123456789ab", "weights", "0" * 64)
    finally:
        primary.close()


def test_half_a_file_is_none() -> None:
    with (
        server(lambda connection: connection.sendall(HEAD + bytes(500_000))) as url,
        pytest.raises(PrimaryError, match="can't be asked"),
    ):
        fetch(url)


def test_a_file_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primary_module, "FETCH_S", 0.2)
    given_up = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        while not given_up.is_set():
            connection.sendall(b"x")
            time.sleep(0.01)

    with server(trickle) as url:
        with pytest.raises(PrimaryError, match="took longer than"):
            fetch(url)
        given_up.set()


def test_what_is_no_http_is_said_in_a_sentence() -> None:
    with (
        server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")) as url,
        pytest.raises(PrimaryError, match="can't be asked"),
    ):
        fetch(url)
