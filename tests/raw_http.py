"""HTTP byte by byte, for what no well-behaved client sends."""

import socket
import time
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.service import Service


@dataclass
class Reply:
    """What came back: the first response, if any, and whether the connection has ended."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection:
    """A TCP connection to a service."""

    def __init__(self, service: Service, timeout_s: float = 60, receive_buffer: int = 0) -> None:
        url = urlsplit(service.url)
        self.host = url.netloc
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect((url.hostname, url.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, end: bytes) -> bytes:
        """All that comes until these bytes have; fails if the other side closes before."""
        data = b""
        while not data.endswith(end):
            chunk = self.socket.recv(65536)
            assert chunk, data
            data += chunk
        return data

    def read_to_the_end(self) -> bytes:
        """All that comes until the other side closes; fails if it does not."""
        data = b""
        try:
            while chunk := self.socket.recv(65536):
                data += chunk
        except ConnectionResetError:
            pass
        return data

    def reply(self) -> Reply:
        """What comes until the other side closes."""
        return parsed(self.read_to_the_end())

    def seconds_until_closed(self) -> float:
        began = time.monotonic()
        self.read_to_the_end()
        return time.monotonic() - began


def parsed(data: bytes) -> Reply:
    if not data:
        return Reply()
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Reply(int(status_line.split()[1]), {name.lower(): value for name, value in pairs}, body)


def exchange(service: Service, request: bytes) -> Reply:
    """Send these bytes, the last of them a request with `Connection: close`, and read it all."""
    with Connection(service) as connection:
        connection.send(request)
        return connection.reply()
