"""A machine with a stand-in for its service manager, and a home of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.service import clean_environment

STANDIN = Path(__file__).parent / "standin.py"


class Machine:
    """`menny service ...` as it is on a Mac (`darwin`) or a Linux machine (`linux`)."""

    def __init__(self, platform: str, folder: Path) -> None:
        self.home = folder / "home of Menny"  # a space, as in Application Support
        self.bin = folder / "bin"
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "COLUMNS": "200",
        }
        self._platform = platform
        self.home.mkdir()
        self.bin.mkdir()
        for name in ("launchctl", "systemctl", "journalctl"):  # never the real ones
            tool = self.bin / name
            tool.write_text(f"#!{sys.executable}\n" + STANDIN.read_text())
            tool.chmod(0o755)

    @property
    def file(self) -> Path:
        if self._platform == "darwin":
            return self.home / "Library" / "LaunchAgents" / "local.menny.plist"
        return self.home / ".config" / "systemd" / "user" / "menny.service"

    @property
    def state(self) -> Path:
        if self._platform == "darwin":
            return self.home / "Library" / "Application Support" / "Menny"
        return self.home / ".local" / "state" / "menny"

    @property
    def pid(self) -> int | None:
        path = self.bin / "pid"
        return int(path.read_text()) if path.exists() else None

    @property
    def calls(self) -> list[list[str]]:
        path = self.bin / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def changes(self) -> list[str]:
        """The verbs since the last time, without those that only ask."""
        verbs = [call[2] if call[1] == "--user" else call[1] for call in self.calls]
        (self.bin / "calls").write_text("")
        return [verb for verb in verbs if verb not in {"print", "show", "version"}]

    def menny(self, *arguments: str, uid: int = 501, **environment: str):
        """Run `menny service ARGUMENTS` on this machine's platform as user number `uid`."""
        code = (
            "import os\nfrom app.cli import main, service as commands\n"
            f"commands._platform = lambda: {self._platform!r}\nos.geteuid = lambda: {uid}\nmain()"
        )
        return subprocess.run(
            [sys.executable, "-c", code, "service", *arguments],
            env={**clean_environment(), **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )


@contextmanager
def machine(platform: str, folder: Path) -> Iterator[Machine]:
    """A machine whose service is ended with the block."""
    made = Machine(platform, folder)
    try:
        yield made
    finally:
        if made.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(made.pid, signal.SIGKILL)


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
