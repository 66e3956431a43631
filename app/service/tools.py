"""Running `launchctl`, `systemctl` and the like; writing a file as a whole."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from app.service.errors import ServiceManagerError

_TIMEOUT_S = 90.0


def run_tool(
    name: str, *arguments: str, timeout_s: float = _TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a program of the system to its end, whatever its exit status; its output is text."""
    path = shutil.which(name)
    if path is None:
        raise ServiceManagerError(
            f"{name} is not on the PATH: `menny service` needs launchd (macOS) or systemd (Linux); "
            "elsewhere have your own supervisor run `menny serve`"
        )
    try:
        return subprocess.run(  # noqa: S603 - the system's own tools, with arguments of ours
            [path, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceManagerError(f"{name} {arguments[0]} failed: {error}") from error


def what_it_said(ended: subprocess.CompletedProcess[str]) -> str:
    """What a tool complained about, on one line."""
    words = (
        ended.stderr.strip() or ended.stdout.strip() or f"exit status {ended.returncode}"
    ).split()
    return " ".join(words)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file; whoever looks sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        # launchd refuses a file that others can write; that others can read it does no harm.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a text file, none if it can't be read; reads 256 KiB at most."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 256 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
