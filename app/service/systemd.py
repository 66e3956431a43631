"""A systemd user unit: systemd.service(5), systemd.exec(5)."""

import getpass
import os
import re
from pathlib import Path
from subprocess import CompletedProcess

from app.service.definition import MAX_STOP_S, Definition, Folders
from app.service.errors import ServiceManagerError
from app.service.manager import Manager
from app.service.tools import run_tool, what_it_said

UNIT = "menny.service"

_PATIENCE_S = 90.0

_TEMPLATE = """\
[Unit]
Description=Menny, a tiny Transformer that answers over HTTP
# A wrong configuration is given up on after five starts within a minute; a rare crash never.
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
# Not notify: whoever starts it asks /health, which also knows whether there is a model.
Type=exec
ExecStart={command}
{environment}
WorkingDirectory=/
Restart=on-failure
RestartSec=5
# SIGTERM goes to the server alone, which drains and ends its training job.
KillMode=mixed
TimeoutStopSec={stop_timeout}
UMask=0077

NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{sandbox}
[Install]
WantedBy=default.target
"""

_SANDBOX = """
# Its own view of the file system. A user's service manager needs a user namespace for it.
PrivateUsers=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp={private_tmp}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
"""
_SANDBOX_MARK = "\nPrivateUsers=yes\n"
_EXIT_NAMESPACE, _EXIT_USER = "226", "217"


class Systemd(Manager):
    """The unit `menny.service` of this user's service manager."""

    name = "systemd"

    def __init__(self, config_home: Path, state_home: Path, sandbox: bool | None = None) -> None:
        self.file = config_home / "systemd" / "user" / UNIT
        self.folders = Folders(state=state_home / "menny", logs=None)
        if sandbox is None:
            sandbox = not self.file.is_file() or _SANDBOX_MARK in self.file.read_text()
        self._sandbox = sandbox

    def render(self, definition: Definition) -> bytes:
        """A unit file; only the state directory can be written."""
        writable = [definition.state_dir]
        if log_file := definition.environment.get("MENNY_LOG_FILE"):
            writable.append(Path(log_file).parent)
        # A /tmp of its own would hide what it needs of the common one. MLX wants one to write to.
        needed = [*writable, Path(definition.command[0]), definition.settings.weights]
        is_in_tmp = any(path.is_relative_to(tmp) for path in needed for tmp in ("/tmp", "/var/tmp"))  # noqa: S108
        if is_in_tmp:
            writable.append(Path("/tmp"))  # noqa: S108
        sandbox = _SANDBOX.format(
            # "-": without its state directory, it still starts and answers.
            writable=" ".join(_quoted(f"-{path}") for path in writable),
            private_tmp="no" if is_in_tmp else "yes",
        )
        text = _TEMPLATE.format(
            command=" ".join(_quoted(part).replace("$", "$$") for part in definition.command),
            environment="\n".join(
                f"Environment={_quoted(f'{name}={value}')}"
                for name, value in definition.environment.items()
            ),
            stop_timeout=definition.stop_timeout_s,
            sandbox=sandbox if self._sandbox else "",
        )
        return text.encode()

    def parse(self, content: bytes) -> Definition:
        """The command and environment of a unit of `render`."""
        text = content.decode(errors="replace")
        command = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        pairs = re.findall(r'^Environment=("(?:[^"\\]|\\.)*")$', text, re.MULTILINE)
        environment = dict(_unquoted(pair).partition("=")[::2] for pair in pairs)
        if len(command) != 1 or not Path(environment.get("MENNY_STATE_DIR", "")).is_absolute():
            raise ServiceManagerError(f"{self.file} is not a unit of Menny's")
        parts = re.findall(r'"(?:[^"\\]|\\.)*"', command[0].replace("$$", "$"))
        return Definition(tuple(map(_unquoted, parts)), environment)

    def check(self) -> None:
        """A user's service manager answers."""
        if os.geteuid() == 0 and "SUDO_USER" in os.environ:
            raise ServiceManagerError(
                "the unit belongs to a user, not to root: run this as yourself, without sudo"
            )
        ended = run_tool("systemctl", "--user", "show", "--property=Version")
        if ended.returncode != 0:
            raise ServiceManagerError(
                f"systemd has no session of {getpass.getuser()} ({what_it_said(ended)}): log in "
                "directly rather than with su or sudo, or run `loginctl enable-linger` and set "
                f"XDG_RUNTIME_DIR=/run/user/{os.geteuid()}"
            )

    def pid(self) -> int | None:
        """From `systemctl show`."""
        return int(self._property("MainPID") or 0) or None

    def failure(self) -> str | None:
        """From `systemctl show`: also while it waits for its next start."""
        if self._property("Result") in {"success", ""} or self.pid() is not None:
            return None
        status = self._property("ExecMainStatus")
        if status in {_EXIT_NAMESPACE, _EXIT_USER}:
            return (
                "this machine gives users no namespaces, which its sandbox needs; "
                "`menny service install --no-sandbox` leaves that part out"
            )
        return f"it ended with exit status {status} ({self._property('Result')})"

    def start(self) -> None:
        """`daemon-reload`, `enable`, `start`."""
        self._do("daemon-reload")
        self._do("reset-failed", UNIT, must=False)
        self._do("enable", UNIT)
        ended = self._do("start", UNIT, must=False)
        if ended.returncode != 0:
            fault = self.failure() or what_it_said(ended)
            raise ServiceManagerError(f"Menny did not start: {fault}")

    def stop(self) -> None:
        """`stop`; it is still enabled. Also while it waits for its next start."""
        if self._property("ActiveState") not in {"inactive", "failed"}:
            self._do("stop", UNIT, timeout_s=_PATIENCE_S + MAX_STOP_S)

    def forget(self) -> None:
        """`disable --now`, and remove the unit."""
        self._do("disable", "--now", UNIT, must=False, timeout_s=_PATIENCE_S + MAX_STOP_S)
        self.file.unlink(missing_ok=True)
        self._do("daemon-reload")
        self._do("reset-failed", UNIT, must=False)

    def log_command(self, definition: Definition, lines: int, follow: bool) -> list[str]:
        """`journalctl`, which keeps the log and bounds it."""
        options = ["--follow"] if follow else ["--no-pager"]
        return ["journalctl", "--user", "--unit", UNIT, "--lines", str(lines), *options]

    def last_words(self, definition: Definition, lines: int) -> list[str]:
        """From the journal, if there is one."""
        try:
            return run_tool(*self.log_command(definition, lines, follow=False)).stdout.splitlines()
        except ServiceManagerError:
            return []

    def _property(self, name: str) -> str:
        ended = run_tool("systemctl", "--user", "show", "--value", f"--property={name}", UNIT)
        return ended.stdout.strip()

    def _do(
        self, *arguments: str, must: bool = True, timeout_s: float = _PATIENCE_S
    ) -> CompletedProcess[str]:
        ended = run_tool("systemctl", "--user", *arguments, timeout_s=timeout_s)
        if must and ended.returncode != 0:
            raise ServiceManagerError(
                f"systemctl --user {' '.join(arguments)} failed: {what_it_said(ended)}"
            )
        return ended


def systemd_here(sandbox: bool | None = None) -> Systemd:
    """The service manager of this user, by the XDG base directories.

    The sandbox is there unless it is refused, now or when the unit was installed.
    """
    home = Path.home()
    return Systemd(
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"),
        Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state"),
        sandbox,
    )


def _quoted(text: str) -> str:
    """As systemd.syntax(7) quotes a word; % would begin a specifier."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]).replace("%%", "%")
