"""One HTTP connection: uvicorn's, with limits on how slow and how large its client may be.

uvicorn limits how long a connection idles between two requests, and nothing else. Here a client
that owes bytes, or leaves ours untaken, has a deadline; a sweep over all connections, twice a
second, enforces it, so that a request costs no timer.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Self, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.http.edge import too_large
from app.http.headers import add_security_headers
from app.http.problems import problem
from app.settings import Settings

LINGER_S = 1.0
"""How long a client that was refused while it was sending has for taking the answer."""
MIN_AGE_S = 1.0
"""A connection that has been waited for less than this is not closed to make room."""
_CHUNK_OVERHEAD = 8
"""Bytes on the wire for a byte of the body: chunks of one byte each."""


@dataclass(frozen=True)
class Limits:
    """What one client may have."""

    max_connections: int
    max_header_bytes: int
    max_body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


class _Owed(Enum):
    """What the client has to send next."""

    HEADERS = auto()
    BODY = auto()
    NOTHING = auto()


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose client can neither hold it for ever nor make it take any amount."""

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, if there is room."""
        super().connection_made(transport)
        self._real = transport
        # uvicorn closes what it has answered. Where the client is still sending, the kernel would
        # then reset the connection, and the client might lose the answer: see close().
        self.transport = cast("asyncio.Transport", _Closing(transport, self))
        self._owed = _Owed.HEADERS
        self._since = self.loop.time()
        self._unsent_since: float | None = None
        self._lingers = False
        self._pending = 0  # bytes of a request that is not complete
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._unset_keepalive_if_required()
        if self._lingers:
            return
        self._pending += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade:  # CONNECT: what follows is for somebody else
            self.cycle.keep_alive = False
        except _TooLargeError as error:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error))
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _TooLargeError):
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error.__context__))
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
        else:
            if self._owed is _Owed.NOTHING:
                self._pending = 0
            else:
                self._check_size()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._owed = _Owed.HEADERS
        self._since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers. What comes after the body is none (RFC 9110, 6.5.1)."""
        if self._owed is _Owed.HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        if self._wants_upgrade:
            return
        if self._pending > self.limits.max_header_bytes:  # otherwise they can't be too large
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.max_header_bytes:
                raise self._headers_too_large()
        if not self.url.startswith(b"/"):
            self._take_authority()
        super().on_headers_complete()
        self._owed = _Owed.BODY
        self._since = self.loop.time()

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._wants_upgrade:
            return
        super().on_message_complete()
        self._owed = _Owed.NOTHING

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if self._owed is _Owed.BODY:
            self.close()  # what it still sends is of no use
        elif self._owed is _Owed.NOTHING:
            self._owed = _Owed.HEADERS
            self._since = self.loop.time()

    def enforce_deadlines(self, now: float) -> None:
        """Close the connection if its client has taken too long for anything."""
        if self._real.get_write_buffer_size() == 0:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        elif now - self._unsent_since > self.limits.write_timeout_s:
            self._real.abort()
            return
        waited = now - self._since
        if self._lingers:
            if waited > LINGER_S:
                self._real.abort()
        elif self._owed is _Owed.BODY:
            if waited > self.limits.body_timeout_s:
                self._refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the body did not arrive within {self.limits.body_timeout_s:g} seconds",
                )
        elif self._is_idle and waited > self.limits.header_timeout_s:
            if self._pending:
                self._refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the headers did not arrive within {self.limits.header_timeout_s:g} seconds",
                )
            else:
                self._real.close()

    def _parse(self, data: bytes) -> None:
        """Feed the parser; a request for another protocol is one for HTTP/1.1 (RFC 9110, 7.8).

        The parser takes its body for the other protocol's first bytes. So it gets the request once
        more, without the wish.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._wants_upgrade:
                    raise
                method, version = self.parser.get_method(), self.parser.get_http_version()
                lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
                lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
                data = b"\r\n".join([*lines, b"", data[upgrade.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)

    @property
    def _wants_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    @property
    def _is_idle(self) -> bool:
        return self._owed is _Owed.HEADERS and (self.cycle is None or self.cycle.response_complete)

    def _check_size(self) -> None:
        limits = self.limits
        if self._owed is _Owed.HEADERS:
            if self._pending > limits.max_header_bytes and self._is_idle:
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(self._headers_too_large())
                )
        elif self._pending > limits.max_header_bytes + _CHUNK_OVERHEAD * limits.max_body_bytes:
            # The application counts bodies; this is about chunks' extensions and trailers.
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(limits.max_body_bytes))

    def _headers_too_large(self) -> "_TooLargeError":
        return _TooLargeError(
            f"the request's headers have more than {self.limits.max_header_bytes:,} bytes"
        )

    def _take_authority(self) -> None:
        """A request line with a whole URL: its host counts, not the header (RFC 9112, 3.2.2)."""
        parsed = httptools.parse_url(self.url)
        if parsed.host:
            host = parsed.host if b":" not in parsed.host else b"[%b]" % parsed.host
            authority = host if parsed.port is None else b"%b:%d" % (host, parsed.port)
            self.headers[:] = [pair for pair in self.headers if pair[0] != b"host"]
            self.headers.append((b"host", authority))

    def _make_room(self) -> None:
        """Close the connection that has been waited for longest, or refuse this one."""
        now = self.loop.time()
        others = [
            other
            for other in cast("Iterable[LimitedProtocol]", self.connections)
            if other is not self and (other._is_idle or other._owed is _Owed.BODY)
        ]
        slowest = min(others, key=lambda other: other._since, default=None)
        if slowest is not None and now - slowest._since >= MIN_AGE_S:
            slowest._drop()
        elif len(self.connections) > 2 * self.limits.max_connections:
            self._real.abort()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "there are too many connections; try again in a second",
                {"Retry-After": "1"},
            )

    def _drop(self) -> None:
        if self._is_idle and self._real.get_write_buffer_size() == 0:
            self._real.close()
        else:
            self._real.abort()
        self.connections.discard(self)

    def _refuse(
        self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        """Answer without the application, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if self._owed is not _Owed.BODY and not cycle.more_body:
                return  # an earlier request is being answered; after that it is over
            if cycle.response_started:
                self._real.abort()
                return
            cycle.disconnected = True  # the application learns that nothing more will come
            cycle.message_event.set()
        answer = problem(status, detail, headers=headers)
        raw = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        add_security_headers(raw)
        lines = b"".join(b"%b: %b\r\n" % pair for pair in raw)
        self._real.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body))
        self.close()

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self._lingers or self._real.is_closing()

    def close(self) -> None:
        """Close; while the client is still sending, say so first and give it time to see it."""
        if self._real.is_closing():
            return
        if self._lingers or self._owed is _Owed.NOTHING:
            self._real.close()
            return
        self._lingers = True
        self._since = self.loop.time()
        self._real.resume_reading()
        self._real.write_eof()


class _Closing:
    """A transport that is closed in another way; uvicorn needs no more of it than this."""

    def __init__(self, transport: asyncio.Transport, connection: LimitedProtocol) -> None:
        self._transport = transport
        self.get_extra_info = transport.get_extra_info
        self.is_closing = connection.is_closing
        self.close = connection.close

    def write(self, data: bytes) -> None:
        """Nobody is there to read what is written after the end."""
        if not self._transport.is_closing():
            self._transport.write(data)


class _TooLargeError(Exception):
    """The headers are."""


def limited_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The class of connections for uvicorn's `http` option."""
    return type("Connection", (LimitedProtocol,), {"limits": limits})
