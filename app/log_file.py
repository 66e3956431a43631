"""The log in a file of its own, whose size is bounded: for where nobody else rotates it."""

import logging
import os
import stat
import sys
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from training.errors import MennyError


class LogFileError(MennyError):
    """The log file can't be written."""


class BoundedFileHandler(RotatingFileHandler):
    """Writes lines to `path`; with its `backups` it takes at most (backups + 1) * max_bytes bytes.

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
