"""What every answer tells a browser to refuse."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of HTML: nothing inline, nothing from elsewhere."""

OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""That of everything else: should a browser ever take it for a page, it can do nothing."""

NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value

_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def _raw(policy: str) -> list[tuple[bytes, bytes]]:
    headers = {"Content-Security-Policy": policy} | _COMMON
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_OF_PAGES = _raw(PAGE_POLICY)
_OF_OTHERS = _raw(OTHER_POLICY)


class SecurityHeaders:
    """ASGI middleware: adds them to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            # A 304 has no Content-Type, and its headers replace those of the page that a browser
            # has kept: it would lose its policy to the one of everything else.
            if message["type"] == "http.response.start" and message["status"] != NOT_MODIFIED:
                add_security_headers(message.setdefault("headers", []))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def add_security_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Add them to the headers of an answer, by its Content-Type."""
    headers.extend(_OF_PAGES if _is_page(headers) else _OF_OTHERS)


def _is_page(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/html") for name, value in headers
    )
