"""The state directory belongs to one service at a time."""

import errno
import fcntl
import os
from pathlib import Path

from app.errors import StateUnavailableError


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
