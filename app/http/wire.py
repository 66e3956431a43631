"""What a connection is made of: its limits, its transport, and the bytes that it writes itself."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Self

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.http.headers import Headers, add_security_headers
from app.http.problems import problem
from app.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one client may have."""

    max_connections: int
    max_header_bytes: int
    max_body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float
    keep_alive_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


class ReadState(Enum):
    """What the client has to send next."""

    HEADERS = auto()
    BODY = auto()
    NOTHING = auto()


class ClosingTransport:
    """A transport that is closed in another way; uvicorn needs no more of it than this."""

    def __init__(
        self,
        transport: asyncio.Transport,
        is_closing: Callable[[], bool],
        close: Callable[[], None],
    ) -> None:
        self._transport = transport
        self.get_extra_info = transport.get_extra_info
        self.is_closing = is_closing
        self.close = close

    def write(self, data: bytes) -> None:
        """Nobody is there to read what is written after the end."""
        if not self._transport.is_closing():
            self._transport.write(data)


class OneAtATime(FlowControl):
    """Reads no more while requests wait for their turn: what is queued stays bounded."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Called by uvicorn when an answer is complete, and when the application wants a body."""
        if not self._pipeline:
            super().resume_reading()


def refusal_of(
    status: HTTPStatus, detail: str, headers: dict[str, str] | None, defaults: Headers
) -> bytes:
    """A whole answer, with a request id of its own, after which the connection closes."""
    name = secrets.token_hex(8)
    logger.debug("%d %s [%s]", status, detail, name)
    answer = problem(status, detail, headers=headers, name=name)
    raw = [
        *defaults,
        *answer.raw_headers,
        (b"x-request-id", name.encode()),
        (b"connection", b"close"),
    ]
    add_security_headers(raw)
    lines = b"".join(b"%b: %b\r\n" % pair for pair in raw)
    return STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body)


def take_authority(url: bytes, headers: Headers) -> None:
    """A request line with a whole URL: its host counts, not the header's (RFC 9112, 3.2.2)."""
    parsed = httptools.parse_url(url)
    if parsed.host:
        host = parsed.host if b":" not in parsed.host else b"[%b]" % parsed.host
        authority = host if parsed.port is None else b"%b:%d" % (host, parsed.port)
        headers[:] = [pair for pair in headers if pair[0] != b"host"]
        headers.append((b"host", authority))
