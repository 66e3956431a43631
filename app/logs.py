"""The log: how lines look, which request each belongs to, and a file of bounded size for them."""

import fcntl
import json
import logging
import os
import stat
import sys
from contextlib import suppress
from contextvars import ContextVar
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.logging import RichHandler

from training.errors import MennyError

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being served, for log lines and errors."""


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
    for name in (
        "uvicorn",
        "httpx",
    ):  # httpx has a line for each request, as a replica's every second
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


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


class LogFileError(MennyError):
    """The log file can't be written."""


class BoundedFileHandler(RotatingFileHandler):
    """Writes lines to `path`; with its `backups` it takes at most (backups + 1) * max_bytes bytes.

    Several processes may write to one path: what one has put aside, the others leave too.
    A full disk or a directory that is gone must neither stop the service nor fill another file
    with complaints: it says so on stderr, once, and goes on with the next line that it can write.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self._has_complained = False
        try:
            super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
        except OSError as error:
            raise LogFileError(
                f"the log file {path} can't be written: {error.strerror}; name another "
                "MENNY_LOG_FILE, or none to log to stderr"
            ) from error

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        """Whether the file is full, after leaving one that another process has put aside."""
        if self._is_aside():
            self._reopen()
        return bool(super().shouldRollover(record))

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Put the file aside, unless another process is faster."""
        assert self.stream is not None  # noqa: S101 - shouldRollover has opened it
        held = os.dup(self.stream.fileno())  # closing the stream would let others in
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            if self._is_aside():
                self._reopen()
            else:
                super().doRollover()
        finally:
            os.close(held)

    def _reopen(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.stream = self._open()

    def _is_aside(self) -> bool:
        """Whether the path is another file's now."""
        try:
            there = os.stat(self.baseFilename)
        except OSError:  # nobody has made another one
            return False
        own = os.fstat(self.stream.fileno()) if self.stream else there
        return not os.path.samestat(there, own)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Complain about the first line that could not be written."""
        if not self._has_complained:
            self._has_complained = True
            error = sys.exc_info()[1]
            with suppress(OSError):
                print(f"the log file can't be written: {error}", file=sys.stderr)  # noqa: T201


def trim_stderr(max_bytes: int) -> None:
    """Empty the file that stderr goes to, if it is one and has grown beyond `max_bytes`.

    launchd appends to such a file and never rotates it; with a log file, all that it gets is what
    a crash leaves behind.
    """
    with suppress(OSError, ValueError):
        descriptor = sys.stderr.fileno()
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size > max_bytes:
            os.ftruncate(descriptor, 0)
