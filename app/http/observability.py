"""What can be seen of each request: its id, its log line, its share of the metrics."""

import itertools
import json
import logging
import re
import secrets
import time
from contextvars import ContextVar
from http import HTTPStatus
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.server import Lifecycle
from app.metrics import Metrics

logger = logging.getLogger(__name__)

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being served, for log lines and errors."""

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestObserver:
    """ASGI middleware, the outermost: names, counts, times and logs every request."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, lifecycle: Lifecycle, *, access_log: bool
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._id_prefix = secrets.token_hex(4)
        self._counter = itertools.count()
        self._access_log_level = logging.INFO if access_log else logging.DEBUG

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        own_id = _sane_id(scope) or f"{self._id_prefix}{next(self._counter) & 0xFFFFFFFF:08x}"
        request_id.set(own_id)
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", own_id.encode()))
                if self._lifecycle.is_closing:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._account(scope, status, time.perf_counter() - begin)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if logger.isEnabledFor(self._access_log_level):
            logger.log(
                self._access_log_level,
                "%s %s %d %.1f ms",
                scope["method"],
                scope["raw_path"].decode("ascii", "backslashreplace"),  # path may have newlines
                status,
                seconds * 1e3,
            )


def _sane_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if SANE_REQUEST_ID.fullmatch(text) else None
    return None


# --- logs ---------------------------------------------------------------------------------------


def configure_logging(
    level: str, log_format: Literal["text", "json"], to: logging.Handler | None = None
) -> None:
    """Log to stderr: for people on a terminal, as plain lines elsewhere, or as JSON lines.

    With a handler `to`, log there instead.
    """
    console = Console(stderr=True)
    handler = to or logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    elif to is None and console.is_terminal:
        handler = RichHandler(console=console, show_path=False, log_time_format="%X")
        handler.setFormatter(logging.Formatter("%(message)s%(request)s"))
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s%(request)s")
        )
    handler.addFilter(_add_request_id)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))


def _add_request_id(record: logging.LogRecord) -> bool:
    own_id = request_id.get()
    record.request_id = own_id
    record.request = f" [{own_id}]" if own_id else ""
    return True


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None})
