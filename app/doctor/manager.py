"""Checks of the service manager, of what is installed with it, and of the sandbox."""

from pathlib import Path

from app.doctor.finding import Finding, fail, ok, warn
from app.errors import ServiceManagerError
from app.service.launchd import Launchd
from app.service.manager import Manager, installed

_NAMESPACES_OFF = (
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ("user/max_user_namespaces", "0"),
)


def check_service(manager: Manager) -> Finding:
    """Whether the manager can be asked, and how the service is, if it is installed."""
    try:
        manager.check()
    except ServiceManagerError as error:
        return warn(str(error), "menny serve")
    if isinstance(manager, Launchd) and not manager.has_domain():
        return warn(
            "launchd runs an agent for a user who is logged in at the screen, and this one is not",
            "menny serve",
        )
    if installed(manager) is None:
        if manager.file.exists():
            return warn(f"{manager.file} is not this version's", "menny service install")
        return ok(f"{manager.name} can be asked; no service is installed")
    if pid := manager.pid():
        return ok(f"{manager.name} runs Menny, process {pid}")
    if fault := manager.failure():
        return fail(f"the service is installed and does not run: {fault}", "menny service logs")
    return warn("the service is installed and stopped", "menny service start")


def check_lingering(is_installed: bool, user: str, folder: Path) -> Finding:
    """Whether a systemd user service goes on after its user has logged out."""
    if not is_installed or (folder / user).exists():
        return ok("nothing would stop the service when you log out")
    return warn("the service stops when you log out", "loginctl enable-linger")


def check_sandbox(sysctl: Path) -> Finding:
    """Whether this kernel gives users namespaces, which the unit's view of the files needs."""
    for name, off in _NAMESPACES_OFF:
        file = sysctl / name
        if file.is_file() and file.read_text().strip() == off:
            return warn(
                f"this machine may give users no namespaces ({name.replace('/', '.')} is {off})",
                "menny service install --no-sandbox",
            )
    return ok("users have namespaces, which the unit's sandbox needs")
