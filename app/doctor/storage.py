"""Checks of the state directory: owner and mode, free space, fsync, the lock, the database."""

import contextlib
import fcntl
import os
import shlex
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from pathlib import Path

from app.doctor.finding import Finding, fail, ok, warn

_LEAST_BYTES, _SOME_BYTES = 50 * 2**20, 500 * 2**20


def check_state_dir(folder: Path, uid: int) -> Finding:
    """Whether it is this user's, and nobody else can write it or read the token."""
    if not folder.exists():
        return ok(f"{folder} will be made at the first start")
    if not folder.is_dir():
        return fail(f"{folder} is not a folder", f"mv {_quoted(folder)} {_quoted(folder)}.old")
    status = folder.stat()
    if status.st_uid != uid or not os.access(folder, os.W_OK):
        return fail(
            f"{folder} can't be written by this user, number {uid}; it is number {status.st_uid}'s",
            f"sudo chown -R {uid} {_quoted(folder)} && chmod u+rwx {_quoted(folder)}",
        )
    if stat.S_IMODE(status.st_mode) & 0o022:
        return warn(f"others may write in {folder}", f"chmod go-w {_quoted(folder)}")
    token = folder / "admin_token"
    if token.exists() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        return warn(f"others may read {token}", f"chmod 600 {_quoted(token)}")
    return ok(f"{folder}, this user's")


def check_overlooked(said: str | None) -> Finding:
    """Whether a state directory of old, in the current folder, is left unused."""
    if said is None:
        return ok("there is no other one in this folder")
    return warn(said, 'export MENNY_STATE_DIR="$PWD/.menny"')


def check_space(free: int, folder: Path) -> Finding:
    """Whether versions, a log and a database find room; `free` in bytes."""
    says = f"{free / 2**20:,.0f} MiB are free where {folder} is"
    if free < _LEAST_BYTES:
        return fail(says, f"df -h {_quoted(folder)}  # then make room, or set MENNY_STATE_DIR")
    if free < _SOME_BYTES:
        return warn(says, f"df -h {_quoted(folder)}")
    return ok(says)


def free_bytes(folder: Path) -> int:
    """How much room there is where a folder is, or would be."""
    return shutil.disk_usage(_existing(folder)).free


def check_fsync(folder: Path) -> Finding:
    """Whether what is written reaches the drive, and how long that takes."""
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "darwin":
                fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
    except OSError as error:
        return warn(
            f"what is written does not surely reach the drive: {error.strerror}",
            'export MENNY_STATE_DIR="$HOME/.menny"  # on a drive of this machine',
        )
    return ok(f"what is written reaches the drive, in {(time.perf_counter() - begin) * 1e3:.1f} ms")


def check_lock(folder: Path) -> Finding:
    """Whether a service uses the state directory; there can be one."""
    with contextlib.suppress(FileNotFoundError), (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return ok("a service uses it; a second one would serve without /train")
    return ok("no service uses it")


def check_database(folder: Path) -> Finding:
    """SQLite's own check of the database."""
    path = folder / "menny.sqlite3"
    if not path.exists():
        return ok("there is none yet")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return ok("SQLite finds no fault in it")
    return fail(
        f"{path} is damaged: {said}",
        f"menny service stop; mv {_quoted(path)} {_quoted(path)}.damaged; menny service start",
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
