"""Checks of the machine: platform, packages, descriptors, folders closed to launchd, Chromium."""

import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.doctor.finding import Finding, fail, ok, warn

_OLDEST_MACOS = 14
_OLDEST_GLIBC = (2, 35)
_PYTHONS = range(11, 15)
_CHROMIUMS = ("chromium", "google-chrome", "chromium-browser")
_MAC_CHROMIUMS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@dataclass(frozen=True)
class Machine:
    """What MLX's wheels ask of a machine."""

    system: str
    machine: str
    python: str
    macos: str = ""
    glibc: str = ""
    """Empty where the C library is another one."""
    is_translated: bool = False
    """Whether Rosetta runs this process, on a Mac that could run a native one."""


def this_machine() -> Machine:
    """The one that this process runs on."""
    return Machine(
        system=platform.system(),
        machine=platform.machine(),
        python=platform.python_version(),
        macos=platform.mac_ver()[0],
        glibc=platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
        is_translated=sys.platform == "darwin" and _is_translated(),
    )


def check_platform(at: Machine) -> Finding:
    """MacOS 14 or later on arm64, or Linux with glibc 2.35 or later; Python 3.11 to 3.14."""
    major, minor = map(int, at.python.split(".")[:2])
    if major != 3 or minor not in _PYTHONS:
        return fail(
            f"this is Python {at.python}, and MLX has wheels for 3.11 to 3.14",
            "PYTHON=python3.13 make clean serve",
        )
    if at.system == "Darwin":
        if at.machine != "arm64":
            why = "runs under Rosetta" if at.is_translated else f"is for {at.machine}"
            return fail(
                f"this Python {why}, and MLX needs a native one (arm64)",
                "brew install python@3.13 && PYTHON=/opt/homebrew/bin/python3.13 make clean serve",
            )
        if int(at.macos.partition(".")[0]) < _OLDEST_MACOS:
            return fail(
                f"this is macOS {at.macos}, and MLX needs macOS 14", "softwareupdate --list"
            )
        return ok(f"macOS {at.macos} on {at.machine}, Python {at.python}")
    if at.system == "Linux":
        if not at.glibc or tuple(map(int, at.glibc.split("."))) < _OLDEST_GLIBC:
            return fail(
                f"the C library is {f'glibc {at.glibc}' if at.glibc else 'not glibc'}, and MLX's "
                "wheels need glibc 2.35",
                "use a newer distribution, such as Ubuntu 22.04 or Debian 12",
            )
        return ok(f"Linux on {at.machine}, glibc {at.glibc}, Python {at.python}")
    return fail(f"MLX has no wheels for {at.system}", "use macOS or Linux")


def check_packages(lock: Path, installed: Mapping[str, str | None]) -> Finding:
    """Whether what is installed is what the lock names, in a checkout that has one."""
    if not installed.get("mlx"):
        return fail("MLX is not installed", "make -B .venv/.serve")
    if not lock.is_file():
        return ok(f"installed without a lock; MLX {installed['mlx']}")
    locked = _locked(lock)
    others = [
        f"{name} {here} (not {' or '.join(sorted(locked[name]))})"
        for name, here in sorted(installed.items())
        if here and name in locked and here not in locked[name]
    ]
    if others:
        says = f"not as in the lock: {', '.join(others[:3])}{' ...' if others[3:] else ''}"
        return warn(says, "make -B .venv/.serve")
    return ok(f"as in the lock; MLX {installed['mlx']}")


def installed_packages(lock: Path) -> dict[str, str | None]:
    """The versions of the packages that a lock names, and of MLX; None where there is none."""
    names = set(_locked(lock)) if lock.is_file() else set()
    return {name: _version(name) for name in names | {"mlx"}}


def check_descriptors(room: int, wanted: int) -> Finding:
    """Whether there are file descriptors for as many connections as are promised."""
    if room < wanted:
        return warn(
            f"there are file descriptors for {room} connections, not for {wanted}",
            f"export MENNY_MAX_CONNECTIONS={room}  # or raise the limit: ulimit -Hn",
        )
    return ok(f"enough for {wanted} connections")


def check_workers(num_workers: int, num_cores: int) -> Finding:
    """Whether each process that answers can have a core."""
    if num_workers > num_cores:
        return warn(
            f"{num_workers} workers share {num_cores} cores, and are no faster than {num_cores}",
            "export MENNY_WORKERS=auto",
        )
    return ok(f"{num_workers} on {num_cores} cores")


def check_folders(paths: Iterable[Path], home: Path, system: str) -> Finding:
    """Whether launchd may read what the service needs: macOS keeps some folders from it."""
    if system != "Darwin":
        return ok("a service may read all of them here")
    kept = [home / name for name in ("Documents", "Desktop", "Downloads")]
    kept += [home / "Library" / name for name in ("Mobile Documents", "CloudStorage")]
    for path in paths:
        for folder in (*kept, Path("/Volumes")):
            if path.is_relative_to(folder):
                return warn(
                    f"macOS lets no launchd agent read {path}, for it is in {folder}",
                    f"mv {shlex.quote(str(_moved(path, folder)))} ~/  # then `make serve` and "
                    "`menny service install` there",
                )
    return ok("launchd may read all that the service needs")


def find_chromium() -> str | None:
    """A Chromium or Chrome; on a Mac they are on nobody's PATH."""
    on_path = (shutil.which(name) for name in _CHROMIUMS)
    apps = (path for path in _MAC_CHROMIUMS if Path(path).is_file())
    return next((found for found in on_path if found), None) or next(apps, None)


def check_chromium(found: str | None, system: str) -> Finding:
    """Whether the tests of the page can run."""
    if found:
        return ok(found)
    mac, linux = "brew install --cask chromium", "sudo apt install chromium"
    return warn(
        "there is none, which only the page's tests need", mac if system == "Darwin" else linux
    )


def _is_translated() -> bool:
    asked = ["/usr/sbin/sysctl", "-in", "sysctl.proc_translated"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "1"  # noqa: S603


def _locked(lock: Path) -> dict[str, set[str]]:
    """The versions of each package; a few have one for old Pythons and one for new ones."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, separator, rest = line.partition("==")
        if separator and not name.startswith((" ", "#")):
            found.setdefault(name.partition("[")[0], set()).add(rest.split()[0].rstrip(";"))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _moved(path: Path, folder: Path) -> Path:
    """The topmost folder below `folder` that `path` is in."""
    return folder / path.relative_to(folder).parts[0] if path != folder else path
