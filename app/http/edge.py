"""What every request has to pass before anything looks at it."""

from http import HTTPStatus

from fastapi import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.hosts import HostRule, is_from_elsewhere
from app.http.problems import problem

_ONCE = frozenset(
    {
        *(b"host", b"origin", b"sec-fetch-site", b"authorization"),
        *(b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"),
    }
)

_VERSIONS = frozenset({"1.1", "1.0"})


class Gate:
    """ASGI middleware: our name in Host, no other page in Origin, a body that is not too large."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: HostRule,
        origins: tuple[str, ...],
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(origin.encode() for origin in origins)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if refusal := self._refusal(scope, headers):
                await refusal(scope, receive, send)
                return
            if b"transfer-encoding" in headers:
                receive = self._limited(receive)
            if b"range" in headers:  # no file here is worth resuming (RFC 9110, 14.2)
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]
        elif scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        if len(headers) != len(scope["headers"]):
            names = [name for name, _ in scope["headers"] if name in _ONCE]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1).decode().title()
                return problem(
                    HTTPStatus.BAD_REQUEST, f"there is more than one {twice} header; send one"
                )
        if scope["http_version"] not in _VERSIONS:
            return problem(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
                "this service speaks HTTP/1.1",
                headers={"Connection": "close"},
            )
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return problem(
                HTTPStatus.NOT_IMPLEMENTED,
                "the body has a Transfer-Encoding besides chunked; send it as it is",
                headers={"Connection": "close"},
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
            scope["method"],
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
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            return problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "the body has a Content-Encoding; send it as it is",
                headers={"Accept-Encoding": "identity"},
            )
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._max_body_bytes:
            return problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                too_large(self._max_body_bytes),
                headers={"Connection": "close"},
            )
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
