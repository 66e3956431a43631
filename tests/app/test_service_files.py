"""The plist and the unit: other readers understand them, and what they say runs."""

import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.service.definition import Definition, define, this_command
from app.service.errors import ServiceManagerError
from app.service.launchd import Launchd
from app.service.manager import Manager
from app.service.systemd import Systemd
from tests.machine import free_port

AWKWARD = Path('/a home/of 100%/she\'s "Menny" $HOME/back\\slash/ü')


def managers(home: Path = AWKWARD) -> list[Manager]:
    return [Launchd(home, 501), Systemd(home / "config", home / "state")]


@pytest.mark.parametrize("manager", managers(), ids=["launchd", "systemd"])
def test_a_file_is_read_back_as_it_was_meant(manager: Manager) -> None:
    definition = define(manager.folders, {"host": "::1", "port": 8123})
    assert manager.parse(manager.render(definition)) == definition
    assert definition.url == "http://[::1]:8123"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "))


@settings(max_examples=50)
@given(value=TEXT, folder=TEXT)
def test_any_printable_value_survives_in_both_files(value: str, folder: str) -> None:
    environment = {
        "MENNY_HOST": value,
        "MENNY_LOG_FILE": f"/{folder}/log",
        "MENNY_STATE_DIR": f"/{folder}/state",
    }
    definition = Definition((f"/{folder}/python", "-m", value), environment)
    for manager in managers():
        assert manager.parse(manager.render(definition)) == definition


def test_the_plist_has_what_keeps_an_agent_running(tmp_path: Path) -> None:
    manager = Launchd(tmp_path, 501)
    plist = plistlib.loads(manager.render(define(manager.folders, {})))
    assert plist["Label"] == "local.menny" == manager.file.stem
    assert plist["RunAtLoad"] is True
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["ProgramArguments"] == list(this_command())
    assert os.path.isabs(plist["ProgramArguments"][0])
    assert plist["Umask"] == 0o077
    assert plist["ThrottleInterval"] >= 10
    assert plist["ExitTimeOut"] > 3
    assert "MENNY_WEIGHTS" not in plist["EnvironmentVariables"]


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENNY_STATE_DIR", "here")
    environment = define(managers()[0].folders, {"weights": Path("a/b.npz")}).environment
    assert environment["MENNY_STATE_DIR"] == str(tmp_path / "here")
    assert environment["MENNY_WEIGHTS"] == str(tmp_path / "a" / "b.npz")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for manager in managers():
        monkeypatch.setenv("MENNY_STATE_DIR", "")
        definition = define(manager.folders, {})
        assert definition.state_dir == manager.folders.state


def test_a_file_with_a_relative_state_directory_is_not_ours() -> None:
    for manager in managers():
        relative = Definition(this_command(), {"MENNY_STATE_DIR": ".", "MENNY_LOG_FILE": "log"})
        with pytest.raises(ServiceManagerError):
            manager.parse(manager.render(relative))


def test_a_value_that_would_end_a_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_STATE_DIR", "/a\nExecStart=/bin/false")
    with pytest.raises(ServiceManagerError, match="MENNY_STATE_DIR"):
        define(managers()[1].folders, {})


@pytest.mark.skipif(not shutil.which("plistutil"), reason="needs plistutil (libplist-utils)")
def test_an_independent_reader_understands_the_plist(tmp_path: Path) -> None:
    content = managers()[0].render(define(managers()[0].folders, {"port": 8123}))
    xml, binary, again = (tmp_path / name for name in ("menny.plist", "binary", "again.plist"))
    xml.write_bytes(content)
    for source, target, kind in ((xml, binary, "bin"), (binary, again, "xml")):
        command = ["plistutil", "-i", str(source), "-o", str(target), "-f", kind]
        subprocess.run(command, check=True, timeout=30)
    assert binary.read_bytes().startswith(b"bplist00")
    assert plistlib.loads(again.read_bytes()) == plistlib.loads(content)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (systemd)")
@pytest.mark.parametrize("sandbox", [True, False])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, sandbox: bool) -> None:
    home = tmp_path / "a 100% home"
    manager = Systemd(home, home, sandbox)
    definition = define(manager.folders, {"port": 8123})
    definition.state_dir.mkdir(parents=True)
    unit = tmp_path / manager.file.name
    unit.write_bytes(manager.render(definition))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["launchd", "systemd"])
def test_what_the_file_says_serves_with_nothing_else_in_its_environment(
    name: str, tmp_path: Path
) -> None:
    home, port = tmp_path / "a 100% home", free_port()
    manager = Launchd(home, 501) if name == "launchd" else Systemd(home, home)
    content = manager.render(define(manager.folders, {"port": port}))
    if name == "launchd":
        plist = plistlib.loads(content)
        command, environment = plist["ProgramArguments"], plist["EnvironmentVariables"]
    else:  # read here without the code under test
        lines = [line.replace("%%", "%") for line in content.decode().splitlines()]
        values = [line.split("=", 1) for line in lines if "=" in line]
        command = shlex.split(dict(values)["ExecStart"])
        pairs = [shlex.split(value)[0] for key, value in values if key == "Environment"]
        environment = dict(pair.split("=", 1) for pair in pairs)
    with subprocess.Popen(
        command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
            ) as client:
                assert healthy(client, process)
                answer = client.post("/transform", json={"query": "MeM"})
                assert (answer.status_code, len(answer.json()["response"])) == (200, 3)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0  # neither KeepAlive nor Restart=on-failure starts it anew
    assert Path(environment["MENNY_STATE_DIR"], "admin_token").exists()
    if name == "launchd":
        assert errors == ""
        errors = (manager.folders.logs / "menny.log").read_text()
    assert f"listening on http://127.0.0.1:{port}" in errors


def healthy(client: httpx.Client, process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return client.get("/health").json()["status"] == "ok"
        except httpx.ConnectError:
            time.sleep(0.05)
    return False


def test_the_command_finds_menny_from_anywhere_and_nothing_in_its_working_directory(
    tmp_path: Path,
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('not mine')")
    command = [*this_command()[:-1], "--version"]
    assert command[0] == sys.executable
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("menny "), result.stderr
