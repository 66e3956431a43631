"""A systemd user unit: systemd.service(5), systemd.exec(5)."""

import getpass
import os
import shlex
from pathlib import Path
from subprocess import CompletedProcess

from app.errors import ServiceManagerError
from app.service import tools
from app.service.definition import Definition
from app.service.tools import complaint

UNIT = "menny.service"

_PATIENCE_S = 90.0

_SANDBOX_MARK = "PrivateUsers=yes"
_EXIT_NAMESPACE, _EXIT_USER = "226", "217"


class Systemd:
    """The unit `menny.service` of this user's service manager."""

    name = "systemd"
    log_dir = None

    def __init__(self, config_home: Path, sandbox: bool | None = None) -> None:
        self.file = config_home / "systemd" / "user" / UNIT
        self.env_file = config_home / "menny" / "service.env"
        if sandbox is None:
            sandbox = not self.file.is_file() or _SANDBOX_MARK in self.file.read_text().splitlines()
        self._sandbox = sandbox

    def render(self, definition: Definition) -> bytes:
        """A unit file; only the folders that the definition names can be written."""
        writable = list(definition.folders)
        # A /tmp of its own would hide what it needs of the common one. MLX wants one to write to.
        needed = [
            *writable,
            self.env_file,
            Path(definition.command[0]),
            definition.settings.weights,
        ]
        is_in_tmp = any(path.is_relative_to(tmp) for path in needed for tmp in ("/tmp", "/var/tmp"))  # noqa: S108
        if is_in_tmp:
            writable.append(Path("/tmp"))  # noqa: S108
        sandbox = _template("sandbox.service").format(
            # "-": without its state directory, it still starts and answers.
            writable=" ".join(_quoted(f"-{path}") for path in writable),
            private_tmp="no" if is_in_tmp else "yes",
        )
        text = _template("menny.service").format(
            command=" ".join(_quoted(part).replace("$", "$$") for part in definition.command),
            stop_timeout=definition.stop_timeout_s,
            sandbox=f"\n{sandbox}" if self._sandbox else "",
        )
        return text.encode()

    def parse(self, content: bytes) -> tuple[tuple[str, ...], dict[str, str]]:
        """ExecStart and Environment of a unit."""
        lines = [line.partition("=") for line in content.decode().replace("%%", "%").splitlines()]
        (command,) = [shlex.split(value) for name, _, value in lines if name == "ExecStart"]
        pairs = [shlex.split(value)[0] for name, _, value in lines if name == "Environment"]
        return (
            tuple(part.replace("$$", "$") for part in command),
            dict(pair.split("=", 1) for pair in pairs),
        )

    def check(self) -> None:
        """A user's service manager answers, and this is not root."""
        tools.refuse_root(os.geteuid())
        ended = tools.run_tool("systemctl", "--user", "show", "--property=Version")
        if ended.returncode != 0 and not tools.is_systemd_running():
            raise ServiceManagerError(
                "systemd isn't running here: have your own supervisor run `menny serve`"
            )
        if ended.returncode != 0:
            raise ServiceManagerError(
                f"systemd has no session of {getpass.getuser()} ({complaint(ended)}): log in "
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
            fault = self.failure() or complaint(ended)
            raise ServiceManagerError(f"Menny did not start: {fault}")

    def stop(self, timeout_s: float) -> None:
        """`stop`; it is still enabled. Also while it waits for its next start."""
        if self._property("ActiveState") not in {"inactive", "failed"}:
            self._do("stop", UNIT, timeout_s=_PATIENCE_S + timeout_s)

    def remove(self, timeout_s: float) -> None:
        """`disable --now`, and remove the unit."""
        self._do("disable", "--now", UNIT, must=False, timeout_s=_PATIENCE_S + timeout_s)
        self.file.unlink(missing_ok=True)
        self._do("daemon-reload")
        self._do("reset-failed", UNIT, must=False)

    def log_command(self, definition: Definition, lines: int, follow: bool) -> list[str]:
        """`journalctl`, which keeps the log and bounds it."""
        options = ["--follow"] if follow else ["--no-pager"]
        return ["journalctl", "--user", "--unit", UNIT, "--lines", str(lines), *options]

    def _property(self, name: str) -> str:
        ended = tools.run_tool("systemctl", "--user", "show", "--value", f"--property={name}", UNIT)
        return ended.stdout.strip()

    def _do(
        self, *arguments: str, must: bool = True, timeout_s: float = _PATIENCE_S
    ) -> CompletedProcess[str]:
        ended = tools.run_tool("systemctl", "--user", *arguments, timeout_s=timeout_s)
        if must and ended.returncode != 0:
            raise ServiceManagerError(
                f"systemctl --user {' '.join(arguments)} failed: {complaint(ended)}"
            )
        return ended


def _template(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _quoted(text: str) -> str:
    """As systemd.syntax(7) quotes a word; % would begin a specifier."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
