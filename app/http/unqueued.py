"""uvicorn's connection, but what can be answered at once is, and other protocols aren't spoken.

For a request that is answered at once no task, no ASGI and no cycle of uvicorn's is made.
"""

from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.http.api import Api
from app.http.headers import Headers


class UnqueuedProtocol(HttpToolsProtocol):
    """A connection of uvicorn's that asks the edge first (`Edge.answer_at_once`).

    A request is held until its end is there. If that comes with the same bytes, nothing else is
    being answered and the edge knows an answer, that is written; else the request is released, to
    go uvicorn's way as if it had never been held.
    """

    answered: RequestResponseCycle | None = None
    """The request whose turn it is, of those that went uvicorn's way."""
    _held: list[bytes] | None = None  # what has come of the body of the request that is held
    _fields: Headers  # and its headers

    def connection_made(self, transport: Any) -> None:
        """Called by the event loop."""
        super().connection_made(transport)
        self._edge = self.app.edge if isinstance(self.app, Api) else None

    def on_message_begin(self) -> None:
        """Called by the parser, as are the next three."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Hold the request."""
        self._held, self._fields = [], self.headers
        self.headers = []  # what comes after the body is no header (RFC 9110, 6.5.1)

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._held is not None and self._answers_at_once(b"".join(self._held)):
            self._held = None
            self.on_answered_at_once()
            return
        self.release()
        super().on_message_complete()

    def on_answered_at_once(self) -> None:
        """A request has been answered that will never be a cycle."""

    def release(self) -> None:
        """Have the request that is held, if one is, go uvicorn's way."""
        if self._held is None:
            return
        parts, url, expects = self._held, self.url, self.expect_100_continue
        self._held = None
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += self._fields
        super().on_headers_complete()
        self.headers = []
        for part in parts:
            super().on_body(part)

    def _answers_at_once(self, body: bytes) -> bool:
        if (
            self._edge is None
            or self.is_answering
            or self.flow.write_paused
            or self.transport.is_closing()
            or not self.parser.should_keep_alive()
            or self.parser.get_http_version() != "1.1"
        ):
            return False
        answer = self._edge.answer_at_once(self.parser.get_method(), self.url, self._fields, body)
        if answer is None:
            return False
        defaults = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
        self.transport.write(b"".join((STATUS_LINE[HTTPStatus.OK], *defaults, answer)))
        return True

    @property
    def is_answering(self) -> bool:
        """Whether a request has its turn."""
        return self.answered is not None and not self.answered.response_complete

    def parse(self, data: bytes) -> None:
        """Feed the parser; a request for another protocol is one for HTTP/1.1 (RFC 9110, 7.8).

        The parser takes its body for the other protocol's first bytes. So it gets the request once
        more, without the wish.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.wants_upgrade:
                    raise
                method, version = self.parser.get_method(), self.parser.get_http_version()
                lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
                lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
                data = b"\r\n".join([*lines, b"", data[upgrade.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)

    @property
    def wants_upgrade(self) -> bool:
        """Whether the request asks for another protocol."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"
