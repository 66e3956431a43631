"""Headers of every answer: what it tells a browser to refuse; and those of plain JSON, as bytes."""

Headers = list[tuple[bytes, bytes]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of HTML: nothing inline, nothing from elsewhere."""
OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""That of everything else: should a browser ever take it for a page, it can do nothing."""

_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
_OF_PAGES = [(b"content-security-policy", PAGE_POLICY.encode()), *_COMMON]
_OF_OTHERS = [(b"content-security-policy", OTHER_POLICY.encode()), *_COMMON]
JSON = (b"content-type", b"application/json")
PLAIN_JSON = (
    b"".join(
        b"%b: %b\r\n" % pair
        for pair in (JSON, (b"content-length", b"%d"), *_OF_OTHERS, (b"x-request-id", b"%b"))
    )
    + b"\r\n%b"
)
"""Of length, request id and body: what follows on status line and Date."""


def add_security_headers(headers: Headers) -> None:
    """Add them to the headers of an answer, by its Content-Type."""
    for name, value in headers:
        if name == b"content-type" and value.startswith(b"text/html"):
            headers += _OF_PAGES
            return
    headers += _OF_OTHERS
