"""A per-user launchd agent: launchd.plist(5), and today's verbs of launchctl(1).

`bootout` returns before the agent is gone, and until it is, `bootstrap` fails with 5 (EIO) or 37
(EALREADY): so both wait. `kickstart -k` kills with SIGKILL, which would break open requests:
a restart is a `bootout`, which sends SIGTERM, and a `bootstrap`.
"""

import plistlib
import re
import time
from pathlib import Path
from subprocess import CompletedProcess

from app.errors import ServiceManagerError
from app.service import tools
from app.service.definition import Definition
from app.service.tools import complaint

LABEL = "local.menny"
CRASH_LOG_NAME = "menny.crash.log"

_EIO, _EALREADY = 5, 37
_SETTLING_S = 30.0
"""How long launchd may take, besides what the agent is given to stop (ExitTimeOut)."""
_POLL_S = 0.25
_FILES = 10_240
"""What macOS gives at most (OPEN_MAX); launchd gives 256, and a connection takes one."""


class Launchd:
    """The agent `local.menny` of the user who is logged in at the screen."""

    name = "launchd"

    def __init__(self, home: Path, uid: int) -> None:
        library = home / "Library"
        self.file = library / "LaunchAgents" / f"{LABEL}.plist"
        self.env_file = library / "Application Support" / "Menny" / "service.env"
        self.log_dir = library / "Logs" / "Menny"
        self._crash_log = self.log_dir / CRASH_LOG_NAME
        self._uid = uid
        self._domain = f"gui/{uid}"
        self._target = f"gui/{uid}/{LABEL}"

    def render(self, definition: Definition) -> bytes:
        """A property list; `SuccessfulExit: false` restarts after any end but exit status 0."""
        return plistlib.dumps(
            {
                "Label": LABEL,
                "ProgramArguments": list(definition.command),
                # A folder that is always there: without it, launchd would not even start her.
                "WorkingDirectory": "/",
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},
                "ThrottleInterval": 10,
                "ExitTimeOut": definition.stop_timeout_s,
                "SoftResourceLimits": {"NumberOfFiles": _FILES},
                # Not Background: that would slow down disk and processor for a service that
                # somebody waits for.
                "ProcessType": "Interactive",
                "Umask": 0o077,
                # What comes before the log is set up, and what a crash leaves; see app.logs.
                "StandardOutPath": str(self._crash_log),
                "StandardErrorPath": str(self._crash_log),
            }
        )

    def parse(self, content: bytes) -> tuple[tuple[str, ...], dict[str, str]]:
        """ProgramArguments and EnvironmentVariables of a plist."""
        try:
            plist = plistlib.loads(content)
            variables = dict(plist.get("EnvironmentVariables", {}))
            return tuple(map(str, plist["ProgramArguments"])), variables
        except Exception as error:  # plistlib raises whatever its parser does
            raise ValueError(f"not a plist of Menny's: {error}") from error

    def check(self) -> None:
        """There is a launchctl, and this is not root."""
        tools.refuse_root(self._uid)
        tools.run_tool("launchctl", "version")

    def has_domain(self) -> bool:
        """Whether launchd runs agents for this user, who then is logged in at the screen."""
        return tools.run_tool("launchctl", "print", self._domain).returncode == 0

    def pid(self) -> int | None:
        """From `launchctl print`."""
        pid = _fields(self._printed() or "").get("pid")
        return int(pid) if pid else None

    def failure(self) -> str | None:
        """From `launchctl print`, while the next start waits for ThrottleInterval."""
        printed = self._printed()
        if printed is None:
            return "launchd does not know it"
        match _fields(printed):
            case {"pid": _}:
                return None
            case {"last terminating signal": name}:
                return f"it was ended by a signal, {name}"
            case {"last exit code": code} if code not in {"0", "(never exited)"}:
                return f"it ended with exit status {code}"
        return None

    def start(self) -> None:
        """`enable`, `bootstrap`; `kickstart` if launchd knows it already."""
        if self._printed() is not None:
            self._expect(tools.run_tool("launchctl", "kickstart", self._target), "start the agent")
            return
        # Without it, as over SSH, `bootstrap` fails with 125, or with 5 like a busy one.
        if not self.has_domain():
            raise ServiceManagerError(
                f"there is no {self._domain}: launchd runs an agent for a user who is logged in at "
                "the screen; log in there, then run this again"
            )
        tools.run_tool("launchctl", "enable", self._target)  # undoes a `launchctl disable`
        deadline = time.monotonic() + _SETTLING_S
        while True:
            ended = tools.run_tool("launchctl", "bootstrap", self._domain, str(self.file))
            if ended.returncode not in {_EIO, _EALREADY} or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        self._expect(ended, "load the agent")

    def stop(self, timeout_s: float) -> None:
        """`bootout`, then wait until launchd has forgotten the agent."""
        if self._printed() is None:
            return
        patience_s = _SETTLING_S + timeout_s
        deadline = time.monotonic() + patience_s
        ended = tools.run_tool("launchctl", "bootout", self._target, timeout_s=patience_s)
        while self._printed() is not None:
            if time.monotonic() > deadline:
                self._expect(ended, "stop the agent")
                raise ServiceManagerError(f"{LABEL} has not stopped for {patience_s:.0f} seconds")
            time.sleep(_POLL_S)

    def remove(self, timeout_s: float) -> None:
        """Stop, and remove the plist."""
        self.stop(timeout_s)
        self.file.unlink(missing_ok=True)

    def log_command(self, definition: Definition, lines: int, follow: bool) -> list[str]:
        """`tail` of the log, and of what came before it or was left by a crash.

        -F, so that it goes on after a rotation.
        """
        logs = [str(path) for path in (self._crash_log, definition.settings.log_file) if path]
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), *logs]

    def _printed(self) -> str | None:
        """What launchd says about the agent; None if it does not know it."""
        ended = tools.run_tool("launchctl", "print", self._target)
        return ended.stdout if ended.returncode == 0 else None

    def _expect(self, ended: CompletedProcess[str], what: str) -> None:
        if ended.returncode != 0:
            raise ServiceManagerError(f"launchd could not {what}: {complaint(ended)}")


def _fields(printed: str) -> dict[str, str]:
    """The agent's own fields, of one tab; what it owns is further to the right."""
    return dict(re.findall(r"^\t([a-z ]+) = (.*)$", printed, re.MULTILINE))
