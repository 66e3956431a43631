"""Running `launchctl`, `systemctl` and the like."""

import shutil
import subprocess
from pathlib import Path

from app.errors import ServiceManagerError

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


def refuse_root(uid: int) -> None:
    """Raise `ServiceManagerError` if this user's number is root's."""
    if uid == 0:
        raise ServiceManagerError(
            "a service belongs to a user, not to root: run this as yourself, without sudo"
        )


def is_systemd_running() -> bool:
    """Whether systemd is this machine's init, as sd_booted(3) finds out."""
    return Path("/run/systemd/system").is_dir()


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """What a tool complained about, on one line."""
    said = ended.stderr.strip() or ended.stdout.strip() or f"exit status {ended.returncode}"
    return " ".join(said.split())
