"""One HTTP connection: uvicorn's, with limits on how slow and how large its client may be.

uvicorn has a timer for a connection that idles between two requests, and no other limit. Here a
client that owes bytes, or leaves ours untaken, has a deadline too, and a sweep over all connections
twice a second enforces them all: a request costs no timer.

This relies on what is not uvicorn's public interface: the parser's callbacks, `cycle`, `pipeline`,
`flow`, `_start_asgi_task`, `on_response_complete`. So it is pinned, see tests/http/test_uvicorn.py.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.http import wire
from app.http.edge import too_large
from app.http.room import make_room
from app.http.unqueued import UnqueuedProtocol
from app.http.wire import ReadState, refusal_of, take_authority

LINGER_S = 1.0  # for taking the answer, where a client was refused while it was sending
MAX_DRAINED_BYTES = 32 * 2**20  # that it may still send meanwhile, which is thrown away
MAX_PIPELINED = 100  # requests of a connection that wait for their turn
_CHUNK_OVERHEAD = 8  # bytes on the wire for a byte of the body: chunks of one byte each


class LimitedProtocol(UnqueuedProtocol):
    """A connection whose client can neither hold it for ever nor make it take any amount.

    Requests are parsed as they come and answered one after the other: `cycle` is the one that was
    parsed last, `answered` the one whose turn it is, and those between are in `pipeline`. What is
    answered at once is none of these.
    """

    limits: wire.Limits
    unsent_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, if there is room."""
        super().connection_made(transport)
        self._real = transport
        self.transport = cast("Any", wire.ClosingTransport(transport, self.is_closing, self.close))
        self.flow = wire.OneAtATime(transport, self.pipeline)
        self._reads = ReadState.HEADERS
        self.since = self.loop.time()
        self._lingers = False
        self.has_asked = False
        self._refusal: bytes | None = None  # for when all before it are answered
        self.pending = 0  # bytes of a request that is not complete, as far as that is known
        self._drained = 0
        if len(self.connections) > self.limits.max_connections:
            make_room(self, cast("set[LimitedProtocol]", self.connections))

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._lingers or self._refusal:
            self._drained += len(data)
            if self._drained > MAX_DRAINED_BYTES:
                self._real.abort()
            return
        self.pending += len(data)
        self._is_all_pending = True
        try:
            self.parse(data)
            self.release()
        except httptools.HttpParserUpgrade:  # CONNECT: what follows is for somebody else
            self.release()
            self.cycle.keep_alive = False
        except (httptools.HttpParserError, UnicodeDecodeError) as error:
            if isinstance(error.__context__, _RefusedError):
                self.refuse(*error.__context__.args)
            else:
                self.refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
        else:
            self._check_size()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._reads = ReadState.HEADERS
        self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        if self.wants_upgrade:
            return
        if self.pending > self.limits.max_header_bytes:  # otherwise they can't be too large
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.max_header_bytes:
                raise _RefusedError(*self._headers_too_large)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_PIPELINED} requests wait on this connection; send more later",
                {"Retry-After": "1"},
            )
        if not self.url.startswith(b"/"):
            take_authority(self.url, self.headers)
        super().on_headers_complete()
        self._reads = ReadState.BODY
        self.since = self.loop.time()

    def on_message_complete(self) -> None:
        """Its body is there as well."""
        if self.wants_upgrade:
            return
        self._reads = ReadState.NOTHING
        self._is_all_pending = False
        super().on_message_complete()

    def on_answered_at_once(self) -> None:
        """The request that was being parsed has been answered meanwhile."""
        self.server_state.total_requests += 1
        self.has_asked = True
        self._reads = ReadState.HEADERS

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A request's turn has come; called by uvicorn."""
        self.answered, self.has_asked = cycle, True
        self.since = self.loop.time()  # its body could not come before
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The request whose turn it was is answered; called by uvicorn."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal:
            self._real.write(self._refusal)
            self.close()
        elif self.cycle.more_body:
            self.close()  # what it still sends is of no use
        else:
            if self._reads is ReadState.NOTHING:
                self._reads = ReadState.HEADERS
            self.since = self.loop.time()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; whether it may still take answers.

        Those to requests that are complete. Whoever waits for the client to go is woken, by one
        more message after the body's last: it may have closed the other half, too.
        """
        if self._lingers or not self.is_answering:
            return False
        if self.cycle.more_body:
            if not self.pipeline:
                return False
            self._forget_last()
        self.cycle.keep_alive = False
        self._reads = ReadState.NOTHING
        cast("RequestResponseCycle", self.answered).message_event.set()
        return True

    def enforce_deadlines(self, now: float) -> None:
        """Close the connection if its client has taken too long for anything."""
        if self._real.get_write_buffer_size() == 0:
            self.unsent_since = None
        elif self.unsent_since is None:
            self.unsent_since = now
        elif now - self.unsent_since > self.limits.write_timeout_s:
            self._real.abort()
            return
        waited, limits, headers_s = now - self.since, self.limits, self.limits.header_timeout_s
        is_between = self.has_asked and not self.pending
        if self._lingers:
            if waited > LINGER_S:
                self._real.abort()
        elif self.is_body_awaited:
            if waited > self.limits.body_timeout_s:
                self.refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the body did not arrive within {self.limits.body_timeout_s:g} seconds",
                )
        elif self.is_idle and waited > (limits.keep_alive_s if is_between else headers_s):
            if self.pending:
                self.refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the headers did not arrive within {headers_s:g} seconds",
                )
            else:
                self._real.close()

    def shutdown(self) -> None:
        """Close, after the answer that is being given; called by uvicorn when it stops."""
        if self._lingers or self.is_idle:
            self._real.close()
        else:
            super().shutdown()

    @property
    def is_idle(self) -> bool:
        """Whether the client's next request has yet to come."""
        return self._reads is ReadState.HEADERS and not self.is_answering

    @property
    def is_body_awaited(self) -> bool:
        """Whether the request whose turn it is lacks a part of its body."""
        return self._reads is ReadState.BODY and self.answered is self.cycle

    def _check_size(self) -> None:
        limits = self.limits
        if not self._is_all_pending:  # where among these bytes the last one began, nobody says
            self.pending = 0
        if self._reads is ReadState.HEADERS:
            if self.pending > limits.max_header_bytes:
                self.refuse(*self._headers_too_large)
        elif self.pending > limits.max_header_bytes + _CHUNK_OVERHEAD * limits.max_body_bytes:
            # The application counts bodies; this is about chunks' extensions and trailers.
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(limits.max_body_bytes))

    @property
    def _headers_too_large(self) -> tuple[HTTPStatus, str]:
        return (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request's headers have more than {self.limits.max_header_bytes:,} bytes",
        )

    def drop(self) -> None:
        """Close without an answer, to make room."""
        if self.is_idle and self._real.get_write_buffer_size() == 0:
            self._real.close()
        else:
            self._real.abort()
        self.connections.discard(self)

    def refuse(self, status: HTTPStatus, detail: str, more: dict[str, str] | None = None) -> None:
        """Answer without the application, after the requests before this one, and close."""
        refusal = refusal_of(status, detail, more, self.server_state.default_headers)
        if self.is_answering:
            if self.pipeline or not self.cycle.more_body:
                if self.cycle.more_body:
                    self._forget_last()
                self._refusal = refusal
                self._reads = ReadState.HEADERS
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
        self.cycle = self.pipeline[0][0] if self.pipeline else cast("Any", self.answered)

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self._lingers or self._real.is_closing()

    def close(self) -> None:
        """Close; while the client is still sending, say so first and give it time to see it."""
        if self.is_closing():
            return
        if self._reads is ReadState.NOTHING:
            self._real.close()
            return
        self._lingers = True
        self.since = self.loop.time()
        self._real.resume_reading()
        self._real.write_eof()


class _RefusedError(Exception):
    """Raised where a request is parsed: `refuse` is to be called with these arguments."""


def limited_protocol(limits: wire.Limits) -> type[asyncio.Protocol]:
    """The class of connections for uvicorn's `http` option."""
    return type("Connection", (LimitedProtocol,), {"limits": limits})
