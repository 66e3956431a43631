"""The plist and the unit: other readers understand them, and what they say runs."""

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ServiceManagerError
from app.service.definition import (
    Definition,
    define,
    env_file_text,
    read_env_file,
    serve_command,
)
from app.service.launchd import Launchd
from app.service.manager import Manager, install, installed
from app.service.systemd import Systemd
from app.settings import Settings
from app.state import default_state_dir

AWKWARD = Path('/a home/of 100%/she\'s "Menny" $HOME/back\\slash/ü')


def managers(home: Path = AWKWARD) -> list[Manager]:
    return [Launchd(home, 501), Systemd(home / "config")]


def defined(manager: Manager, **flags: object) -> Definition:
    return define(manager.env_file, manager.log_dir, flags)


@pytest.mark.parametrize("manager", managers(), ids=["launchd", "systemd"])
def test_the_command_in_a_file_is_read_back_as_it_was_meant(manager: Manager) -> None:
    definition = defined(manager, host="::1", port=8123)
    assert manager.parse(manager.render(definition)) == (definition.command, {})
    assert definition.url == "http://[::1]:8123"


@pytest.mark.parametrize("which", [0, 1], ids=["launchd", "systemd"])
def test_what_is_installed_is_what_was_defined(which: int, tmp_path: Path) -> None:
    manager = managers(tmp_path / AWKWARD.relative_to("/"))[which]
    definition = defined(manager, port=8123)
    install(manager, definition)
    assert installed(manager) == definition
    assert manager.env_file.stat().st_mode & 0o777 == 0o600
    assert manager.file.stat().st_mode & 0o777 == 0o644


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "))


@settings(max_examples=50, deadline=None)
@given(value=TEXT, folder=TEXT)
def test_any_printable_path_survives_in_both_files(value: str, folder: str) -> None:
    variables = {"MENNY_HOST": "::1", "MENNY_STATE_DIR": f"/{folder}/state"}
    definition = Definition((f"/{folder}/python", "-m", value), variables)
    for manager in managers():
        assert manager.parse(manager.render(definition)) == (definition.command, {})


@settings(max_examples=100, deadline=None)
@given(value=TEXT.filter(bool))
def test_any_printable_setting_survives_in_the_env_file(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    file = tmp_path_factory.mktemp("env") / "service.env"
    file.write_text(env_file_text({"MENNY_HOST": value}), encoding="utf-8")
    assert read_env_file(file) == {"MENNY_HOST": value}
    assert Settings(_env_file=file).host == value  # as `menny serve` reads it


@pytest.mark.parametrize(
    "value", ["${HOME}", "${MENNY_HOST:-a}", "$HOME", "a'b", '"', "\\", "#", "a=b"]
)
def test_no_setting_is_expanded(tmp_path: Path, value: str) -> None:
    file = tmp_path / "service.env"
    file.write_text(env_file_text({"MENNY_HOST": value}))
    assert Settings(_env_file=file).host == value


def test_the_plist_has_what_keeps_an_agent_running(tmp_path: Path) -> None:
    manager = Launchd(tmp_path, 501)
    plist = plistlib.loads(manager.render(defined(manager)))
    assert plist["Label"] == "local.menny" == manager.file.stem
    assert plist["RunAtLoad"] is True
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["ProgramArguments"] == list(serve_command(manager.env_file))
    assert os.path.isabs(plist["ProgramArguments"][0])
    assert plist["Umask"] == 0o077
    assert plist["ThrottleInterval"] >= 10
    assert plist["ExitTimeOut"] > 3
    assert "EnvironmentVariables" not in plist


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENNY_STATE_DIR", "here")
    variables = defined(managers()[0], weights=Path("a/b.npz")).variables
    assert variables["MENNY_STATE_DIR"] == str(tmp_path / "here")
    assert variables["MENNY_WEIGHTS"] == str(tmp_path / "a" / "b.npz")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_STATE_DIR", "")
    for manager in managers():
        assert defined(manager).settings.state_dir == default_state_dir()


def test_a_service_with_a_relative_state_directory_is_not_ours(tmp_path: Path) -> None:
    for manager in managers(tmp_path):
        variables = {"MENNY_STATE_DIR": ".", "MENNY_LOG_FILE": "/log"}
        install(manager, Definition(serve_command(manager.env_file), variables))
        assert installed(manager) is None


def test_a_value_that_would_end_a_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_STATE_DIR", "/a\nMENNY_PORT=1")
    with pytest.raises(ServiceManagerError, match="MENNY_STATE_DIR"):
        defined(managers()[1])


@pytest.mark.skipif(not shutil.which("plistutil"), reason="needs plistutil (libplist-utils)")
def test_an_independent_reader_understands_the_plist(tmp_path: Path) -> None:
    content = managers()[0].render(defined(managers()[0], port=8123))
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
    manager = Systemd(home, sandbox)
    definition = defined(manager, port=8123)
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


def test_the_command_finds_menny_from_anywhere_and_nothing_in_its_working_directory(
    tmp_path: Path,
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('not mine')")
    command = [*serve_command(tmp_path)[:-3], "--version"]
    assert command[0] == sys.executable
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("menny "), result.stderr
