"""The service manager of this machine, and what is installed with it.

`Launchd` and `Systemd` have the same methods: `render` and `parse` a plist or unit; `check`, `pid`
and `failure` ask; `start`, `stop` and `remove` act; `log_command` shows the log.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path

from app.errors import ServiceManagerError
from app.service.definition import Definition, env_file_text, read_env_file
from app.service.launchd import Launchd
from app.service.systemd import Systemd
from training.atomic import write_atomically

Manager = Launchd | Systemd


class ManagerName(StrEnum):
    """The service managers that there are files for."""

    LAUNCHD = "launchd"
    SYSTEMD = "systemd"


def manager_here(sandbox: bool | None = None, name: ManagerName | None = None) -> Manager:
    """The service manager of this machine, or the one that is named.

    The sandbox of a unit is there unless it is refused, now or when the unit was installed.
    """
    of_platform = {"darwin": ManagerName.LAUNCHD, "linux": ManagerName.SYSTEMD}
    name = name or of_platform.get(sys.platform)
    if name is None:
        raise ServiceManagerError(
            f"`menny service` knows launchd and systemd, and neither is on {sys.platform}: "
            "have your own supervisor run `menny serve`"
        )
    if name is ManagerName.LAUNCHD:
        return Launchd(Path.home(), os.geteuid())
    config_home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Systemd(Path(config_home), sandbox)


def installed(manager: Manager) -> Definition | None:
    """What is installed; None if nothing is, or nothing that Menny could have written."""
    try:
        command, older_settings = manager.parse(manager.file.read_bytes())
        definition = Definition(command, read_env_file(manager.env_file) or older_settings)
        has_place = Path(definition.variables["MENNY_STATE_DIR"]).is_absolute()
        return definition if has_place and definition.settings else None
    except (OSError, ValueError, KeyError, ServiceManagerError):
        return None


def is_installed(manager: Manager, definition: Definition) -> bool:
    """Whether the files are as `install` would leave them."""
    try:
        content = manager.file.read_bytes()
    except OSError:
        return False
    settings = read_env_file(manager.env_file)
    return content == manager.render(definition) and settings == definition.variables


def install(manager: Manager, definition: Definition) -> None:
    """Write the settings, for this user alone, and the plist or unit."""
    text = env_file_text(definition.variables).encode()
    manager.env_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(manager.env_file, [text], mode=0o600)
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(manager.file, [manager.render(definition)])
