"""Stands in for `launchctl`, `systemctl` and `journalctl`, by the name that it is called by.

It records how it was called, and really runs the command line of the plist or unit, with nothing
in its environment but what that file says, as launchd and systemd do. It does not start it again.

Beside it: `calls` (a JSON list a line), `pid`, `exit` and `known` of the service; what a test may
put there: `killed` (the signal that has ended the agent at once), `settling` (how many more
questions a service that was booted out is still known for), `fail-VERB` (an exit status and what to
say).
"""

import json
import os
import plistlib
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(sys.argv[0]).parent


def main() -> int:
    """Do what the real one would."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    with (HERE / "calls").open("a") as calls:
        calls.write(json.dumps([name, *arguments]) + "\n")
    words = [word for word in arguments if word != "--user"]
    failure = HERE / f"fail-{words[0]}"
    if failure.exists():
        status, _, said = failure.read_text().partition(" ")
        print(said, file=sys.stderr)
        return int(status)
    return {"launchctl": launchctl, "systemctl": systemctl, "journalctl": journalctl}[name](words)


def launchctl(words: list[str]) -> int:
    match words:
        case ["bootstrap", domain, plist]:
            assert re.fullmatch(r"gui/\d+", domain)
            if known():
                print("Bootstrap failed: 5: Input/output error", file=sys.stderr)
                return 5
            settings = plistlib.loads(Path(plist).read_bytes())
            (HERE / "known").touch()
            if (HERE / "killed").exists():
                return 0  # it has ended already
            run(
                settings["ProgramArguments"],
                settings["EnvironmentVariables"],
                settings["WorkingDirectory"],
                settings["StandardErrorPath"],
            )
        case ["bootout", _]:
            end()
            settling = HERE / "settling"
            if not settling.exists():
                (HERE / "known").unlink(missing_ok=True)
        case ["print", _]:
            if not known():
                print("Could not find service in domain for user gui", file=sys.stderr)
                return 113
            print("gui/501/local.menny = {\n\ttype = LaunchAgent")
            print(f"\tpid = {pid()}" if pid() else "\tstate = not running")
            killed = HERE / "killed"
            if killed.exists():
                print(f"\tlast terminating signal = {killed.read_text()}\n" + "}")
            else:
                print(f"\tlast exit code = {exit_status() or '(never exited)'}\n" + "}")
    return 0


def known() -> bool:
    """Whether launchd knows the agent; after a `bootout` it does for some more questions."""
    settling = HERE / "settling"
    if settling.exists() and not pid():
        left = int(settling.read_text())
        settling.write_text(str(left - 1))
        if left <= 0:
            settling.unlink()
            (HERE / "known").unlink(missing_ok=True)
    return (HERE / "known").exists()


def systemctl(words: list[str]) -> int:
    unit = Path(os.environ["XDG_CONFIG_HOME"], "systemd", "user", "menny.service")
    match words:
        case ["show", "--value", "--property=MainPID", _]:
            print(pid() or 0)
        case ["show", "--value", "--property=ActiveState", _]:
            print("active" if pid() else "inactive")
        case ["show", "--value", "--property=Result", _]:
            print("exit-code" if exit_status() not in {None, "0"} else "success")
        case ["show", "--value", "--property=ExecMainStatus", _]:
            print(exit_status() or 0)
        case ["reset-failed", _]:
            (HERE / "exit").unlink(missing_ok=True)
        case ["start", _] if not pid():
            text = unit.read_text()
            (command,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
            (folder,) = re.findall("^WorkingDirectory=(.*)$", text, re.MULTILINE)
            variables = [
                shlex.split(line)[0].replace("%%", "%")
                for line in re.findall("^Environment=(.*)$", text, re.MULTILINE)
            ]
            run(
                shlex.split(command.replace("%%", "%").replace("$$", "$")),
                dict(variable.split("=", 1) for variable in variables),
                folder.replace("%%", "%"),
                str(HERE / "journal"),
            )
        case ["stop", _] | ["disable", "--now", _]:
            end()
    return 0


def journalctl(_: list[str]) -> int:
    journal = HERE / "journal"
    print(journal.read_text() if journal.exists() else "-- No entries --")
    return 0


def run(command: list[str], environment: dict[str, str], folder: str, stderr: str) -> None:
    """Start the service, from a process of its own that learns its exit status."""
    assert os.path.isabs(command[0])
    (HERE / "exit").unlink(missing_ok=True)
    if os.fork():
        wait_until((HERE / "pid").exists)
        return
    os.setsid()
    with open(stderr, "ab") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    for descriptor in range(3):
        os.close(descriptor)
    (HERE / "pid.new").write_text(str(child.pid))
    (HERE / "pid.new").rename(HERE / "pid")
    status = child.wait()
    (HERE / "exit.new").write_text(str(status))
    (HERE / "exit.new").rename(HERE / "exit")
    (HERE / "pid").unlink()
    os._exit(0)


def end() -> None:
    """SIGTERM, and wait."""
    process = pid()
    if process:
        os.kill(process, signal.SIGTERM)
        wait_until(lambda: not pid())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pid() -> int | None:
    try:
        return int((HERE / "pid").read_text())
    except FileNotFoundError:
        return None


def exit_status() -> str | None:
    try:
        return (HERE / "exit").read_text()
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
