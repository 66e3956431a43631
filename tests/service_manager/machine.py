"""A machine with a home of its own, and a stand-in for launchd or systemd that records its calls.

`menny service` runs in this process, as if on the machine's platform. What the stand-in starts is a
thread that answers /health, or with `real` the command of the plist or unit itself, with nothing in
its environment, as launchd and systemd do. It starts nothing anew.
"""

import contextlib
import fcntl
import functools
import http.server
import io
import json
import os
import plistlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from app.cli import main
from app.doctor import model
from app.service import tools
from app.service.definition import read_env_file
from app.service.tools import run_tool
from app.settings import Settings

HEALTHY: dict[str, object] = {"status": "ok", "model_version": "0123456789ab", "proven": True}
_load_weights = functools.cache(model.load_weights)
_QUESTIONS = {"print", "show", "version"}


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Machine:
    """`menny service ...` as it is on a Mac (`darwin`) or a Linux machine (`linux`)."""

    def __init__(self, platform: str, folder: Path, *, real: bool = False) -> None:
        self.home = folder / "home of Menny"  # a space, as in Application Support
        self.state = self.home / "state"
        self.journal = folder / "journal"
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],  # whose first tools fail: see tests/conftest.py
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "MENNY_STATE_DIR": str(self.state),
            "COLUMNS": "200",
        }
        self.calls: list[list[str]] = []
        self.failing: dict[str, tuple[int, str]] = {}
        """By verb: the exit status and what is said instead of doing it."""
        self.settling = 0
        """How many more questions launchd knows an agent for that was booted out."""
        self.ends_with: str | int | None = None
        """The signal or exit status that every start ends with at once."""
        self.health = HEALTHY
        self.has_systemd = True
        """Whether systemd is the machine's init."""
        self.has_screen = True
        """Whether launchd has a domain for the user, who is logged in at the screen."""
        self.patience: dict[str, float] = {}
        """By verb: for how many seconds it was waited at most."""
        self.executed: list[str] = []
        """The command that took the place of `menny`."""
        self._platform, self._real = platform, real
        self._known, self._ended = False, None
        self._service: _Thread | _Process | None = None
        self._starts = 0
        self.home.mkdir()

    @property
    def file(self) -> Path:
        if self._platform == "darwin":
            return self.home / "Library" / "LaunchAgents" / "local.menny.plist"
        return self.home / ".config" / "systemd" / "user" / "menny.service"

    @property
    def env_file(self) -> Path:
        if self._platform == "darwin":
            return self.home / "Library" / "Application Support" / "Menny" / "service.env"
        return self.home / ".config" / "menny" / "service.env"

    @property
    def pid(self) -> int | None:
        return self._service.pid if self._service and self._service.runs else None

    @property
    def exit_status(self) -> str | int | None:
        return self._service.status if self._service else self._ended

    def changes(self) -> list[str]:
        """The verbs since the last time, without those that only ask."""
        verbs = [call[2] if call[1] == "--user" else call[1] for call in self.calls]
        self.calls.clear()
        return [verb for verb in verbs if verb not in _QUESTIONS]

    def menny(self, *arguments: str, uid: int = 501, **environment: str) -> Result:
        """Run `menny service ARGUMENTS` as user number `uid`."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - {"PATH"}:
                patch.delenv(name)
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "platform", self._platform)
            patch.setattr(sys, "argv", ["menny", "service", *arguments])
            patch.setattr(os, "geteuid", lambda: uid)
            patch.setattr(os, "execv", lambda _, command: self.executed.extend(command))
            patch.setattr(model, "load_weights", _load_weights)
            patch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
            if "PATH" not in environment:
                patch.setattr(tools, "run_tool", self._run_tool)
                patch.setattr(tools, "is_systemd_running", lambda: self.has_systemd)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = main() or 0
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 1
                    err.write(end.code if isinstance(end.code, str) else "")
        return Result(status, out.getvalue(), err.getvalue())

    def end(self) -> None:
        """SIGTERM, and wait."""
        if self._service:
            self._service.end()

    # --- the stand-in ---------------------------------------------------------------------------

    def _run_tool(
        self, name: str, *arguments: str, timeout_s: float = 0
    ) -> subprocess.CompletedProcess[str]:
        if name in {"tail", "lsof"}:
            return run_tool(name, *arguments, timeout_s=10)
        self.calls.append([name, *arguments])
        words = [word for word in arguments if word != "--user"]
        self.patience[words[0]] = timeout_s
        status, said = self.failing.get(words[0]) or getattr(self, f"_{name}")(words)
        out, err = ("", said) if status else (said, "")
        return subprocess.CompletedProcess([name, *arguments], status, out, err)

    def _launchctl(self, words: list[str]) -> tuple[int, str]:
        match words:
            case ["bootstrap", domain, plist]:
                assert re.fullmatch(r"gui/\d+", domain)
                if self._known:
                    return 5, "Bootstrap failed: 5: Input/output error"
                content = plistlib.loads(Path(plist).read_bytes())
                self._known = True
                self._start(
                    content["ProgramArguments"],
                    content.get("EnvironmentVariables", {}),
                    content["WorkingDirectory"],
                    Path(content["StandardErrorPath"]),
                )
            case ["kickstart", _] if not self.pid:
                self._known = False
                return self._launchctl(["bootstrap", "gui/501", str(self.file)])
            case ["bootout", _]:
                self.end()
                self._known = self.settling > 0
            case ["print", target] if target.count("/") == 2:
                if self._known and not self.pid and self.settling:
                    self.settling -= 1
                    self._known = self.settling > 0
                if not self._known:
                    return 113, "Could not find service in domain for user gui"
                state = f"pid = {self.pid}" if self.pid else "state = not running"
                ended = self.exit_status
                how = (
                    f"last terminating signal = {ended}"
                    if isinstance(ended, str)
                    else f"last exit code = {'(never exited)' if ended is None else ended}"
                )
                return 0, f"gui/501/local.menny = {{\n\t{state}\n\t{how}\n}}"
            case ["print", _] if not self.has_screen:
                return 125, "Domain does not support specified action"
        return 0, ""

    def _systemctl(self, words: list[str]) -> tuple[int, str]:
        match words:
            case ["show", "--value", name, _]:
                failed = self.exit_status not in {None, 0}
                return 0, {
                    "--property=MainPID": str(self.pid or 0),
                    "--property=ActiveState": "active" if self.pid else "inactive",
                    "--property=Result": "exit-code" if failed else "success",
                    "--property=ExecMainStatus": str(self.exit_status or 0),
                }[name]
            case ["start", _] if not self.pid:
                lines = [line.partition("=") for line in self.file.read_text().splitlines()]
                values = {name: value.replace("%%", "%") for name, _, value in lines}
                self._start(
                    shlex.split(values["ExecStart"].replace("$$", "$")),
                    dict(
                        shlex.split(v)[0].split("=", 1) for n, _, v in lines if n == "Environment"
                    ),
                    values["WorkingDirectory"],
                    self.journal,
                )
            case ["stop", _] | ["disable", "--now", _]:
                self.end()
        return 0, ""

    def _journalctl(self, _: list[str]) -> tuple[int, str]:
        return 0, self.journal.read_text() if self.journal.exists() else "-- No entries --"

    def _start(
        self, command: list[str], variables: dict[str, str], folder: str, stderr: Path
    ) -> None:
        assert os.path.isabs(command[0])
        with stderr.open("a") as log:
            self._ended, self._service = self.ends_with, None
            if self.ends_with is not None:
                log.write("her last words\n")
            elif self._real:
                process = subprocess.Popen(
                    command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stderr=log
                )
                self._service = _Process(process)
            else:
                self._starts += 1
                given = variables or read_env_file(Path(command[-1]))
                settings = {name[6:].lower(): value for name, value in given.items()}
                port = Settings(**settings).port
                self._service = _Thread(port, self.health, 4000 + self._starts)


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | str | None:
        status = self._process.poll()
        return signal.strsignal(-status) if status is not None and status < 0 else status

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


class _Thread:
    """Answers /health, and nothing else."""

    def __init__(self, port: int, health: dict[str, object], pid: int) -> None:
        body = json.dumps(health).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if health["status"] == "ok" else 503)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.pid, self.runs, self.status = pid, True, None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self) -> None:
        if self.runs:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self.runs, self.status = False, 0


@contextlib.contextmanager
def machine(platform: str, folder: Path, *, real: bool = False) -> Iterator[Machine]:
    """A machine whose service is ended with the block."""
    made = Machine(platform, folder, real=real)
    try:
        yield made
    finally:
        made.end()


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
