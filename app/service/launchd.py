"""A per-user launchd agent: launchd.plist(5), and today's verbs of launchctl(1).

`bootout` returns before the agent is gone, and until it is, `bootstrap` fails with 5 (EIO) or 37
(EALREADY): so both wait. `kickstart -k` kills with SIGKILL, which would break open requests:
a restart is a `bootout`, which sends SIGTERM, and a `bootstrap`.
"""

import os
import plistlib
import re
import time
from pathlib import Path
from subprocess import CompletedProcess

from app.service.definition import MAX_STOP_S, Definition, Folders
from app.service.errors import ServiceManagerError
from app.service.manager import Manager
from app.service.tools import run_tool, tail, what_it_said

LABEL = "local.menny"
CRASH_LOG_NAME = "menny.crash.log"

_EIO, _EALREADY, _NO_SUCH_DOMAIN = 5, 37, 125
_SETTLING_S = 30.0
"""How long launchd may take, besides what the agent is given to stop (ExitTimeOut)."""
_POLL_S = 0.25


class Launchd(Manager):
    """The agent `local.menny` of the user who is logged in at the screen."""

    name = "launchd"

    def __init__(self, home: Path, uid: int) -> None:
        self.file = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.folders = Folders(
            state=home / "Library" / "Application Support" / "Menny",
            logs=home / "Library" / "Logs" / "Menny",
        )
        self._uid = uid
        self._domain = f"gui/{uid}"
        self._target = f"gui/{uid}/{LABEL}"

    def render(self, definition: Definition) -> bytes:
        """A property list; `SuccessfulExit: false` restarts after any end but exit status 0."""
        return plistlib.dumps(
            {
                "Label": LABEL,
                "ProgramArguments": list(definition.command),
                "EnvironmentVariables": dict(definition.environment),
                # Not the state directory: without it, launchd would not even start her again.
                "WorkingDirectory": "/",
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},
                "ThrottleInterval": 10,
                "ExitTimeOut": definition.stop_timeout_s,
                # Not Background: that would slow down disk and processor for a service that
                # somebody waits for.
                "ProcessType": "Interactive",
                "Umask": 0o077,
                # What comes before the log is set up, and what a crash leaves; see app.log_file.
                "StandardOutPath": str(self._crash_log),
                "StandardErrorPath": str(self._crash_log),
            }
        )

    def parse(self, content: bytes) -> Definition:
        """The command and environment of a plist."""
        try:
            plist = plistlib.loads(content)
            environment = plist["EnvironmentVariables"]
            command = tuple(map(str, plist["ProgramArguments"]))
            definition = Definition(command, {str(k): str(v) for k, v in environment.items()})
            if not (
                definition.state_dir.is_absolute() and definition.environment["MENNY_LOG_FILE"]
            ):
                raise ValueError("its state directory is not absolute")
            return definition
        except Exception as error:  # plistlib raises whatever its parser does
            raise ServiceManagerError(f"{self.file} is not a plist of Menny's: {error}") from error

    def check(self) -> None:
        """There is a launchctl, and this is not root."""
        if self._uid == 0:
            raise ServiceManagerError(
                "the agent belongs to a user, not to root: run this as yourself, without sudo"
            )
        run_tool("launchctl", "version")

    def pid(self) -> int | None:
        """From `launchctl print`."""
        found = re.search(r"^\tpid = (\d+)$", self._printed() or "", re.MULTILINE)
        return int(found[1]) if found else None

    def failure(self) -> str | None:
        """From `launchctl print`, while the next start waits for ThrottleInterval."""
        printed = self._printed()
        if printed is None:
            return "launchd does not know it"
        if re.search(r"^\tpid = ", printed, re.MULTILINE):
            return None
        if found := re.search(r"^\tlast exit code = ([1-9].*)$", printed, re.MULTILINE):
            return f"it ended with exit status {found[1]}"
        if found := re.search(r"^\tlast terminating signal = (.*)$", printed, re.MULTILINE):
            return f"it was ended by a signal, {found[1]}"
        return None

    def start(self) -> None:
        """`enable`, `bootstrap`; `kickstart` if launchd knows it already."""
        assert self.folders.logs is not None  # noqa: S101 - see __init__
        self.folders.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._printed() is not None:
            self._expect(run_tool("launchctl", "kickstart", self._target), "start the agent")
            return
        run_tool("launchctl", "enable", self._target)  # undoes a `launchctl disable`
        deadline = time.monotonic() + _SETTLING_S
        while True:
            ended = run_tool("launchctl", "bootstrap", self._domain, str(self.file))
            if ended.returncode not in {_EIO, _EALREADY} or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        if ended.returncode == _NO_SUCH_DOMAIN:
            raise ServiceManagerError(
                f"there is no {self._domain}: launchd runs an agent for a user who is logged in at "
                "the screen; log in there, then run this again"
            )
        self._expect(ended, "load the agent")

    def stop(self) -> None:
        """`bootout`, then wait until launchd has forgotten the agent."""
        if self._printed() is None:
            return
        patience_s = _SETTLING_S + MAX_STOP_S
        ended = run_tool("launchctl", "bootout", self._target, timeout_s=patience_s)
        deadline = time.monotonic() + patience_s
        while self._printed() is not None:
            if time.monotonic() > deadline:
                self._expect(ended, "stop the agent")
                raise ServiceManagerError(f"{LABEL} has not stopped for {patience_s:.0f} seconds")
            time.sleep(_POLL_S)

    def forget(self) -> None:
        """Stop, and remove the plist."""
        self.stop()
        self.file.unlink(missing_ok=True)

    def log_command(self, definition: Definition, lines: int, follow: bool) -> list[str]:
        """`tail`; -F, so that it goes on after a rotation."""
        log = definition.environment["MENNY_LOG_FILE"]
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), log]

    def last_words(self, definition: Definition, lines: int) -> list[str]:
        """Of the log, and of what came before it or was left by a crash."""
        log = Path(definition.environment["MENNY_LOG_FILE"])
        return [*tail(log, lines), *tail(self._crash_log, lines)]

    @property
    def _crash_log(self) -> Path:
        assert self.folders.logs is not None  # noqa: S101 - see __init__
        return self.folders.logs / CRASH_LOG_NAME

    def _printed(self) -> str | None:
        """What launchd says about the agent; None if it does not know it."""
        ended = run_tool("launchctl", "print", self._target)
        return ended.stdout if ended.returncode == 0 else None

    def _expect(self, ended: CompletedProcess[str], what: str) -> None:
        if ended.returncode != 0:
            raise ServiceManagerError(f"launchd could not {what}: {what_it_said(ended)}")


def launchd_here() -> Launchd:
    """The launchd of this user."""
    return Launchd(Path.home(), os.geteuid())
