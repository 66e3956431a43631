"""The state directory belongs to one service at a time; what its processes must not do at once."""

import errno
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from app.errors import StateUnavailableError
from app.scoreboard import SILENT_S, Worker

_LOOK_S = 0.01


class StateLock:
    """Holds a state directory until `release` or the end of the process, however it ends.

    Raises `StateUnavailableError` if another service holds it, or `OSError`. Two locks: the file
    `lock` can be removed, and then only the lock of the directory itself keeps others out.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptors: list[int] = []
        try:
            self._hold(folder, os.O_RDONLY)
            self._hold(self._path, os.O_RDWR | os.O_CREAT)
        except BaseException:
            self.release()
            raise
        held = os.fstat(self._descriptors[-1])
        self._identity = held.st_dev, held.st_ino

    @property
    def fault(self) -> str | None:
        """What is wrong with the file `lock`, if it is not the one that is held any more."""
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._identity:
                return None
        except OSError:
            pass
        return f"the file {self._path} was removed or replaced: restart the service"

    def release(self) -> None:
        """Let others have the directory."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _hold(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StateUnavailableError(
                    f"another service uses the state directory {self._path.parent}: stop it, or "
                    "name another MENNY_STATE_DIR"
                ) from None
            raise


def take_state_directory(folder: Path) -> StateLock:
    """Make the directory if need be, and hold it; raises `StateUnavailableError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return StateLock(folder)
    except OSError as error:
        raise unusable(folder, error) from error


def unusable(folder: Path, error: OSError) -> StateUnavailableError:
    """What to say of a state directory that the system won't let us use."""
    return StateUnavailableError(
        f"the state directory {folder} can't be used: {error.strerror}; make it a writable "
        "directory, or name another MENNY_STATE_DIR"
    )


class JobsLock:
    """Whoever holds it, of all workers of a service, runs its jobs."""

    def __init__(self, folder: Path) -> None:
        self._file = _open(folder / "jobs.lock")

    def take(self) -> bool:
        """Try to hold it; it is held until `release` or the end of the process."""
        return _try(self._file)

    def release(self) -> None:
        """Let another worker have it."""
        fcntl.flock(self._file, fcntl.LOCK_UN)


class ChangeLock:
    """A re-entrant lock between the threads of all workers of a service.

    Who waits for a process that does nothing any more has the supervisor kill that.
    """

    def __init__(self, folder: Path, worker: Worker) -> None:
        self._worker = worker
        self._threads = threading.RLock()
        self._depth = 0
        self._file: int | None = None
        """`None` without a state directory, and then there is nothing to change together."""
        with suppress(OSError):
            self._file = _open(folder / "change.lock")

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._hold()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def _hold(self) -> None:
        if self._file is None:
            return
        began = time.monotonic()
        while not _try(self._file):
            if time.monotonic() - began > SILENT_S:
                holder = int(os.pread(self._file, 20, 0) or b"0")
                for row in self._worker.others:
                    if row.pid == holder and row.is_silent:
                        row.condemned = holder
            time.sleep(_LOOK_S)
        os.pwrite(self._file, b"%-19d\n" % self._worker.row.pid, 0)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
