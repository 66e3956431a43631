"""One HTTP connection: uvicorn's, with limits on how slow and how large its client may be.

uvicorn limits how long a connection idles between two requests, and nothing else. Here a client
that owes bytes, or leaves ours untaken, has a deadline; a sweep over all connections, twice a
second, enforces it, so that a request costs no timer.

This relies on methods and fields of uvicorn's class that are not its public interface: the parser's
callbacks, `cycle`, `pipeline`, `flow`, `_start_asgi_task` and `on_response_complete`. Hence
`uvicorn` is pinned to the versions that were read (pyproject.toml).
"""

import asyncio
import logging
import secrets
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Self, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.http.edge import add_security_headers, too_large
from app.http.problems import problem
from app.settings import Settings

logger = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long a client that was refused while it was sending has for taking the answer."""
MAX_DRAINED_BYTES = 32 * 2**20
"""How much it may still send meanwhile, which is thrown away."""
SLOW_AFTER_S = 1.0
"""A client that has been waited for this long can be closed to make room."""
SILENT_AFTER_S = 0.1
"""The same for one that has not sent a byte yet."""
_NEEDED = (2, 0.0)
"""The worth of a connection that is not closed to make room."""
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


class _ReadState(Enum):
    """What the client has to send next."""

    HEADERS = auto()
    BODY = auto()
    NOTHING = auto()


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose client can neither hold it for ever nor make it take any amount.

    Requests are parsed as they come and answered one after the other: `cycle` is the one that was
    parsed last, `_answered` the one whose turn it is, and those between are in `pipeline`.
    """

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, if there is room."""
        super().connection_made(transport)
        self._real = transport
        # uvicorn closes what it has answered. Where the client is still sending, the kernel would
        # then reset the connection, and the client might lose the answer: see close().
        self.transport = cast("asyncio.Transport", _Closing(transport, self))
        self.flow = _OneAtATime(transport, self.pipeline)
        self._reads = _ReadState.HEADERS
        self._since = self.loop.time()
        self._unsent_since: float | None = None
        self._lingers = False
        self._answered: RequestResponseCycle | None = None
        self._refusal: bytes | None = None  # for when all before it are answered
        self._pending = 0  # bytes of a request that is not complete, as far as that is known
        self._drained = 0
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._unset_keepalive_if_required()
        if self._lingers or self._refusal:
            self._drained += len(data)
            if self._drained > MAX_DRAINED_BYTES:
                self._real.abort()
            return
        self._pending += len(data)
        self._is_all_pending = True
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
            if not self._is_all_pending:  # where among these bytes the last one began, nobody says
                self._pending = 0
            self._check_size()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._reads = _ReadState.HEADERS
        self._since = self.loop.time()

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
        self.headers = []  # what comes after the body is no header (RFC 9110, 6.5.1)
        self._reads = _ReadState.BODY
        self._since = self.loop.time()

    def on_message_complete(self) -> None:
        """Its body is there as well."""
        if self._wants_upgrade:
            return
        super().on_message_complete()
        self._reads = _ReadState.NOTHING
        self._is_all_pending = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A request's turn has come; called by uvicorn."""
        self._answered = cycle
        self._since = self.loop.time()  # its body could not come before
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The request whose turn it was is answered; called by uvicorn."""
        cycle = self._answered
        super().on_response_complete()
        if self.transport.is_closing() or self._answered is not cycle:
            return
        if self._refusal:
            self._unset_keepalive_if_required()
            self._real.write(self._refusal)
            self.close()
        elif self.cycle.more_body:
            self.close()  # what it still sends is of no use
        else:
            if self._reads is _ReadState.NOTHING:
                self._reads = _ReadState.HEADERS
            self._since = self.loop.time()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; whether it may still take answers.

        Those to requests that are complete. Whoever waits for the client to go is woken, by one
        more message after the body's last: it may have closed the other half, too.
        """
        if self._lingers or not self._is_answering:
            return False
        if self.cycle.more_body:
            if not self.pipeline:
                return False
            self._forget_last()
        self.cycle.keep_alive = False
        self._reads = _ReadState.NOTHING
        cast("RequestResponseCycle", self._answered).message_event.set()
        return True

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
        elif self._is_body_awaited:
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

    def shutdown(self) -> None:
        """Close, after the answer that is being given; called by uvicorn when it stops."""
        if self._lingers:
            self._real.close()
        else:
            super().shutdown()

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
    def _is_answering(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    @property
    def _is_idle(self) -> bool:
        return self._reads is _ReadState.HEADERS and not self._is_answering

    @property
    def _is_body_awaited(self) -> bool:
        return self._reads is _ReadState.BODY and self._answered is self.cycle

    def _check_size(self) -> None:
        limits = self.limits
        if self._reads is _ReadState.HEADERS:
            if self._pending > limits.max_header_bytes:
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
        """Close the connection that can be missed best, or refuse this one."""
        now = self.loop.time()
        others = cast("set[LimitedProtocol]", self.connections) - {self}
        spare = min(others, key=lambda other: other._worth(now), default=None)
        if spare is not None and spare._worth(now) < _NEEDED:
            spare._drop()
        elif len(self.connections) > 2 * self.limits.max_connections:
            self._real.abort()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "there are too many connections; try again in a second",
                {"Retry-After": "1"},
            )

    def _worth(self, now: float) -> tuple[int, float]:
        """The least is closed first: whose client doesn't read, then who was waited for longest."""
        if self._unsent_since is not None and now - self._unsent_since >= SLOW_AFTER_S:
            return 0, self._unsent_since
        if not (self._is_idle or self._is_body_awaited):
            return _NEEDED
        if self._pending or self._reads is _ReadState.BODY:
            patience = SLOW_AFTER_S
        else:  # between two requests it may be closed at any time
            patience = 0 if self._answered else SILENT_AFTER_S
        return (1, self._since) if now - self._since >= patience else _NEEDED

    def _drop(self) -> None:
        if self._is_idle and self._real.get_write_buffer_size() == 0:
            self._real.close()
        else:
            self._real.abort()
        self.connections.discard(self)

    def _refuse(
        self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        """Answer without the application, after the requests before this one, and close."""
        refusal = self._refusal_of(status, detail, headers)
        if self._is_answering:
            if self.pipeline or not self.cycle.more_body:
                if self.cycle.more_body:
                    self._forget_last()
                self._refusal = refusal
                self._reads = _ReadState.HEADERS
                return
            if self.cycle.response_started:
                self._real.abort()
                return
            self.cycle.disconnected = True  # the application learns that nothing more will come
            self.cycle.message_event.set()
        self._real.write(refusal)
        self.close()

    def _forget_last(self) -> None:
        """Leave out the request whose body will not come, while others are being answered."""
        self.pipeline.popleft()
        self.cycle = self.pipeline[0][0] if self.pipeline else cast("Any", self._answered)

    def _refusal_of(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None) -> bytes:
        name = secrets.token_hex(8)
        logger.debug("%d %s [%s]", status, detail, name)
        answer = problem(status, detail, headers=headers, name=name)
        raw = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (b"x-request-id", name.encode()),
            (b"connection", b"close"),
        ]
        add_security_headers(raw)
        lines = b"".join(b"%b: %b\r\n" % pair for pair in raw)
        return STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body)

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self._lingers or self._real.is_closing()

    def close(self) -> None:
        """Close; while the client is still sending, say so first and give it time to see it."""
        if self.is_closing():
            return
        if self._reads is _ReadState.NOTHING:
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


class _OneAtATime(FlowControl):
    """Reads no more while requests wait for their turn: what is queued stays bounded."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Called by uvicorn when an answer is complete, and when the application wants a body."""
        if not self._pipeline:
            super().resume_reading()


class _TooLargeError(Exception):
    """A request has more bytes of headers than `Limits.max_header_bytes`."""


def limited_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The class of connections for uvicorn's `http` option."""
    return type("Connection", (LimitedProtocol,), {"limits": limits})
