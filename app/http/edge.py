"""The edge: the one layer between the wire and everything else, passed once by each request.

Inwards it names the request and refuses what nothing should look at: a Host that is not ours, a
page of another origin, a body too large. Outwards it adds what every answer has; in the end it
counts and logs.
"""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from fastapi import Response
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.headers import PLAIN_JSON, Headers, add_security_headers
from app.http.hosts import HostRule, is_from_elsewhere
from app.http.lifecycle import Lifecycle
from app.http.problems import problem
from app.logs import request_id
from app.metrics import ServiceMetrics

logger = logging.getLogger(__name__)

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_VERSIONS = frozenset({"1.1", "1.0"})
_ONCE = frozenset(
    {
        *(b"host", b"origin", b"sec-fetch-site", b"authorization"),
        *(b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"),
    }
)

_NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value
_OK, _FAILED = HTTPStatus.OK.value, HTTPStatus.INTERNAL_SERVER_ERROR.value
AnswerAtOnce = Callable[[str, bytes], bytes | None]


class Edge:
    """The outermost ASGI application, around `app`.

    Args:
        app: What answers; it may set `scope["route"]`, by whose path its requests are counted.
        hosts: The names that requests may be addressed to.
        origins: Those whose pages may change something, besides our own.
        max_body_bytes: Size of a body; beyond it, 413.
        metrics: Where requests are counted.
        lifecycle: Whether answers are to close their connections.
        access_log: Log each request at level INFO, not at DEBUG.
        at_once: What answers some methods and paths without waiting, from Content-Type and body:
            JSON, or `None` if `app` has to.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: HostRule,
        origins: tuple[str, ...],
        max_body_bytes: int,
        metrics: ServiceMetrics,
        lifecycle: Lifecycle,
        access_log: bool,
        at_once: Mapping[tuple[bytes, bytes], AnswerAtOnce] = MappingProxyType({}),
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(origin.encode() for origin in origins)
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._access_log_level = logging.INFO if access_log else logging.DEBUG
        self._id_prefix = secrets.token_hex(4).encode()
        self._counter = itertools.count()
        self._at_once = at_once
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there are none
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            else:
                await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        name = self._name_of(headers)
        request_id.set(name.decode())
        status = _FAILED

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                # A 304 has no Content-Type, and its headers replace those of the page that a
                # browser has kept: it would lose its policy to the one of everything else.
                if status != _NOT_MODIFIED:
                    add_security_headers(headers)
                headers.append((b"x-request-id", name))
                if self._lifecycle.is_closing:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            refusal = self._refusal_of(
                scope["method"], scope["http_version"], scope["headers"], headers
            )
            if refusal is not None:
                await refusal(scope, receive, send_with_headers)
                return
            if b"transfer-encoding" in headers:
                receive = self._limited(receive)
            if b"range" in headers:  # no file here is worth resuming (RFC 9110, 14.2)
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]
            if scope["method"] == "HEAD":  # as GET, whose body the server leaves out
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, send_with_headers)
        finally:
            route = scope.get("route")
            path = "none" if route is None else route.path
            self._account(scope["method"], scope["raw_path"], path, status, began)

    def answer_at_once(
        self, method: bytes, url: bytes, raw_headers: Headers, body: bytes
    ) -> bytes | None:
        """The answer to a whole request of HTTP/1.1, where nothing has to be waited for.

        All after the status line and the Date. `None` if the request has to go the usual way, as
        what is refused and what fails: then nothing has happened, and it is said there.
        """
        find = self._at_once.get((method, url))
        headers = dict(raw_headers)
        if find is None or len(body) > self._max_body_bytes or self._lifecycle.is_closing:
            return None
        if b"origin" in headers:  # a page: CORS has something to say
            return None
        began = time.perf_counter()
        try:
            if self._refusal_of(method.decode(), "1.1", raw_headers, headers) is not None:
                return None
            answer = find(headers.get(b"content-type", b"").decode("latin-1"), body)
        except Exception:
            return None
        if answer is None:
            return None
        name = self._name_of(headers)
        self._account(method.decode(), url, url.decode(), _OK, began, name)
        return PLAIN_JSON % (len(answer), name, answer)

    def _name_of(self, headers: dict[bytes, bytes]) -> bytes:
        """The request's id: what the client calls it, if that is short and plain, or a new one."""
        name = headers.get(b"x-request-id")
        if name is None or not SANE_REQUEST_ID.fullmatch(name):
            return b"%b%08x" % (self._id_prefix, next(self._counter) & 0xFFFFFFFF)
        return name

    def _account(
        self, method: str, raw_path: bytes, path: str, status: int, began: float, name: bytes = b""
    ) -> None:
        seconds = time.perf_counter() - began
        if (bound := self._counters.get((path, status))) is None:
            bound = self._counters[path, status] = (
                self._metrics.requests.labels(path, status),
                self._metrics.request_seconds.labels(path),
            )
        requests, request_seconds = bound
        requests.inc()
        request_seconds.observe(seconds)
        if logger.isEnabledFor(self._access_log_level):
            if name:
                request_id.set(name.decode())
            logger.log(
                self._access_log_level,
                "%s %s %d %.1f ms",
                method,
                raw_path.decode("ascii", "backslashreplace"),  # path may have newlines
                status,
                seconds * 1e3,
            )

    def _refusal_of(
        self, method: str, http_version: str, raw_headers: Headers, headers: dict[bytes, bytes]
    ) -> Response | None:
        if len(headers) != len(raw_headers):
            names = [name for name, _ in raw_headers if name in _ONCE]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1).decode().title()
                return problem(
                    HTTPStatus.BAD_REQUEST, f"there is more than one {twice} header; send one"
                )
        if http_version not in _VERSIONS:
            return _closing(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this service speaks HTTP/1.1, and no other"
            )
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return _closing(
                HTTPStatus.NOT_IMPLEMENTED,
                "the body has a Transfer-Encoding besides chunked; send it as it is",
            )
        host = headers.get(b"host", b"")
        try:
            if not host:
                raise ValueError("there is no Host header, or it is empty")
            if not self._hosts.is_own(host):
                return problem(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "the Host header names another host; use http://localhost or "
                    "http://127.0.0.1, or have MENNY_ALLOWED_HOSTS name that host",
                )
        except ValueError as error:
            return problem(
                HTTPStatus.BAD_REQUEST, f"{error}; send the name and port that you connected to"
            )
        if is_from_elsewhere(
            method,
            host,
            headers.get(b"origin"),
            headers.get(b"sec-fetch-site"),
            self._origins,
        ):
            return problem(
                HTTPStatus.FORBIDDEN,
                "a page of another origin may change nothing here; have MENNY_CORS_ORIGINS name "
                "that origin if it should",
            )
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "the body has a Content-Encoding; send it as it is",
                headers={"Accept-Encoding": "identity"},
            )
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._max_body_bytes:
            return _closing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(self._max_body_bytes))
        return None

    def _limited(self, receive: Receive) -> Receive:
        """For a body whose length nobody has said: count it as it comes."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    too_large(self._max_body_bytes),
                    {"Connection": "close"},
                )
            return message

        return counted


def too_large(max_body_bytes: int) -> str:
    """What is wrong with a body that is, and what would be right."""
    return f"the body is larger than {max_body_bytes:,} bytes; send less"


def _closing(status: HTTPStatus, detail: str) -> Response:
    return problem(status, detail, headers={"Connection": "close"})
