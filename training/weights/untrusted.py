"""Files that nobody vouches for: no more is read than allowed, nothing waits, no strange words."""

import os
import stat
from pathlib import Path

from training.errors import WeightsError


class NoFileError(WeightsError):
    """There is no file of that name."""


def read_file(path: Path, max_size: int) -> bytes:
    """The bytes of a regular file; never blocks on a FIFO.

    Raises `NoFileError` if there is none, and `WeightsError` if it has more than `max_size` bytes,
    is no regular file or can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WeightsError(f"{path} is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(max_size + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise NoFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror}") from error
    if len(data) > max_size:
        raise WeightsError(f"{path} is larger than {max_size:,} bytes: it can't be Menny's")
    return data


def words_of(error: object) -> str:
    """What an exception says, in one short line of characters that show: it may quote the file."""
    words = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
