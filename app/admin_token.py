"""The admin token: what guards everything under /train and /models."""

import asyncio
import logging
import secrets
import stat
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from app.errors import StateUnavailableError, TooManyFailuresError, UnauthorizedError
from training.atomic import write_atomically

logger = logging.getLogger(__name__)

TOKEN_FILE = "admin_token"  # noqa: S105 - the name of a file

_MIN_LENGTH = 16

_WINDOW_S = 60.0  # for how long a failure counts
_FREE_FAILURES = 3  # a person mistypes
_FIRST_DELAY_S = 0.25
_MAX_DELAY_S = 4.0
_MAX_WAITING = 20


def read_or_create_token(state_dir: Path) -> str:
    """The admin token of a state directory, generated if there is none (mode 0600).

    Raises `StateUnavailableError` if it can be neither read nor written.
    """
    path = state_dir / TOKEN_FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise StateUnavailableError(
            f"the admin token in {path} can't be used: {error.strerror}; make {state_dir} a "
            "writable directory, or name another MENNY_STATE_DIR"
        ) from error


def _create(path: Path) -> None:
    token = f"{secrets.token_urlsafe(32)}\n".encode()
    with suppress(FileExistsError):  # another process was faster
        write_atomically(path, [token], mode=0o600, replace=False)
        logger.info("the admin token is in %s; `menny token` prints it", path)


def check_token(text: str) -> str:
    """A token as a header can carry it, without blanks around it; raises `ValueError`."""
    token = text.strip()
    if len(token) < _MIN_LENGTH:
        raise ValueError(f"a token has {_MIN_LENGTH} characters or more, this one {len(token)}")
    if not (token.isascii() and token.isprintable()):
        raise ValueError("a token has printable ASCII characters only, for a header carries it")
    return token


def _read(path: Path) -> str:
    try:
        token = check_token(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise StateUnavailableError(f"{path}: {error}: delete it to get a new one") from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
        logger.warning("others could read %s: its mode is 0600 now; better delete it", path)
    return token


class AdminGuard:
    """Compares tokens in constant time, and takes its time over wrong ones.

    The right token is never slowed down: whoever guesses at it must not be able to lock the
    owner out, and 256 random bits are not found by guessing. The delays keep the log short, and
    a token that somebody chose badly out of reach.
    """

    def __init__(self, token: str, read_token: str | None = None) -> None:
        """`read_token` is as good where `check` is told so, and nowhere else."""
        self._token = token.encode()
        self._read_token = None if read_token is None else read_token.encode()
        self._failures: deque[float] = deque(maxlen=100)
        self._waiting = 0

    async def check(self, token: str | None, *, to_read: bool = False) -> None:
        """Raises `UnauthorizedError`, or `TooManyFailuresError`, unless it is the right one.

        `to_read`: the read token is right, too.
        """
        if token is None and to_read:
            raise UnauthorizedError(
                "this needs the token of MENNY_READ_TOKEN, or the admin token: send it in the "
                "header Authorization: Bearer TOKEN"
            )
        if token is None:
            raise UnauthorizedError(
                "this needs the admin token, which `menny token` prints: send it in the header "
                "Authorization: Bearer TOKEN"
            )
        is_right = secrets.compare_digest(token.encode(), self._token)
        if to_read and self._read_token is not None:
            is_right |= secrets.compare_digest(token.encode(), self._read_token)
        if is_right:
            return
        if self._waiting >= _MAX_WAITING:
            raise TooManyFailuresError(int(_MAX_DELAY_S))
        delay = self._next_delay()
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1
        logger.warning("an admin request with a wrong token was refused")
        raise UnauthorizedError("this is not the admin token; `menny token` prints it")

    def _next_delay(self) -> float:
        """Nothing for the first failures of a minute, then twice as long each time."""
        now = time.monotonic()
        while self._failures and now - self._failures[0] > _WINDOW_S:
            self._failures.popleft()
        self._failures.append(now)
        excess = len(self._failures) - _FREE_FAILURES
        return min(_FIRST_DELAY_S * 2.0 ** (excess - 1), _MAX_DELAY_S) if excess > 0 else 0.0
