"""The life of Menny under a real systemd user manager; run inside tests/user_manager.sh."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

URL = "http://127.0.0.1:8471"
STATE = Path.home() / ".local" / "share" / "menny"


def main() -> None:
    installed = menny("service", "install", "--port", "8471")
    assert f"Menny runs at {URL} (ok, model " in installed
    first = pid()
    assert "as before" in menny("service", "install")
    assert pid() == first
    answer = httpx.post(f"{URL}/transform", json={"query": "MeM"}, timeout=30, trust_env=False)
    assert re.fullmatch("[aeiou][AEIOU][aeiou]", answer.json()["response"]), answer

    status = Path(f"/proc/{first}/status").read_text()
    for fact in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"):
        assert fact in status, status
    mounts = Path(f"/proc/{first}/mountinfo").read_text()
    assert re.search(r" / ro,", mounts), mounts
    assert re.search(rf" {STATE} rw,", mounts), mounts

    # Training, in a child process of the service, works in the sandbox too.
    train = ("train", "--remote", URL, "--num-samples", "200", "--num-epochs", "2")
    trained = menny(*train, MENNY_STATE_DIR=str(STATE))
    assert re.search(r"job 1: succeeded: version \w{12} is kept", trained), trained

    os.kill(first, signal.SIGKILL)
    until(lambda: pid() not in {0, first})  # a crash: started anew
    second = pid()
    until(is_well)

    menny("service", "restart")
    third = pid()
    assert third not in {0, second}
    os.kill(third, signal.SIGTERM)
    until(lambda: shown("ActiveState") == "inactive")  # an order: left alone, and no failure
    assert (shown("Result"), shown("ExecMainStatus")) == ("success", "0")

    menny("service", "start")
    assert is_well()
    menny("service", "stop")
    assert shown("ActiveState") == "inactive"
    assert f"kept {STATE}" in menny("service", "uninstall")
    assert shown("LoadState") == "not-found"
    assert (STATE / "admin_token").exists()


def menny(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, (arguments, result.stdout, result.stderr)
    return result.stdout


def shown(name: str) -> str:
    command = ["systemctl", "--user", "show", "--value", f"--property={name}", "menny.service"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()


def pid() -> int:
    return int(shown("MainPID"))


def is_well() -> bool:
    try:
        return httpx.get(f"{URL}/health", timeout=30, trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


if __name__ == "__main__":
    main()
    print("lived")
