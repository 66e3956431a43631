"""What is there instead of a file, and files that can't be read."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.damage.archive import WHOLE, Damaged


def damaged_places() -> Iterator[Damaged]:
    """Links, folders, pipes, devices, permissions."""
    puts: dict[str, tuple[Callable[[Path], object], str]] = {
        "nothing": (lambda path: None, "there is no such file"),
        "a folder": (Path.mkdir, "not a regular file"),
        "a FIFO": (os.mkfifo, "not a regular file"),
        "a socket": (_socket, "can't read"),
        "a link to nothing": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
        "a link to itself": (lambda path: path.symlink_to(path), "can't read"),
        "two links to each other": (_two_links, "can't read"),
        "a link to a folder": (lambda path: path.symlink_to("/"), "not a regular file"),
        "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        "a link to /dev/random": (lambda path: path.symlink_to("/dev/random"), "not a regular"),
        "a link to /dev/null": (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        "a link to a terminal": (lambda path: path.symlink_to("/dev/tty"), ""),
        "a link through a file": (lambda path: path.symlink_to("/etc/passwd/x"), "can't read"),
        "a link to the memory": (lambda path: path.symlink_to("/proc/self/mem"), ""),
        "a link to text of the kernel": (lambda path: path.symlink_to("/proc/self/maps"), ""),
        "unreadable": (_unreadable, "Permission denied"),
        "full of holes": (_holes, "larger than"),
    }
    for name, (put, says) in puts.items():
        yield Damaged(f"{name} in its place", put, says)


def _socket(path: Path) -> None:
    # By its name alone: macOS takes an address of 103 bytes at most.
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
        listener.bind(path.name)


def _two_links(path: Path) -> None:
    other = path.with_suffix(".other")
    path.symlink_to(other)
    other.symlink_to(path)


def _unreadable(path: Path) -> None:
    path.write_bytes(WHOLE)
    path.chmod(0)


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)
