"""The one way in which Menny writes a file: whoever looks sees the old one or the new one, whole.

A file is written beside its place under a temporary name, brought to the disk, and renamed; then
the folder is brought to the disk too, for that is where names are.
"""

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(
    target: Path, chunks: Iterable[bytes], *, mode: int = 0o644, replace: bool = True
) -> None:
    """Write a file, whole or not at all.

    With `replace` off it is never put over a file that is there: `FileExistsError`. Raises
    `OSError` where the disk won't take it; `target` is then as it was.
    """
    with written_aside(target, chunks, mode) as temporary:
        publish(temporary, target, replace=replace)


@contextmanager
def written_aside(target: Path, chunks: Iterable[bytes], mode: int = 0o644) -> Iterator[Path]:
    """A file beside `target`, complete and on the disk, for `publish`; removed at the end."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(chunks)
            os.fchmod(descriptor, mode)
            file.flush()
            _bring_to_disk(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path, *, replace: bool = True) -> None:
    """Give a file that was written aside its name; with `replace` off, not over another one."""
    if replace:
        temporary.replace(target)
    else:
        os.link(temporary, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _bring_to_disk(descriptor)
    finally:
        os.close(descriptor)


def _bring_to_disk(descriptor: int) -> None:
    """Through the drive's own cache too: on macOS fsync(2) leaves the data there."""
    if sys.platform == "darwin":
        with suppress(OSError):  # a network volume may not know it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)
