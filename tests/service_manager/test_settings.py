"""What `menny service install` writes, what it keeps, and when it is renewed."""

import plistlib
import sys
from pathlib import Path

import pytest

from tests.service_manager.machine import Machine, free_port, machine

OLDER = Path(__file__).parent / "older"
"""A plist and a unit as version 0.1.0 wrote them at first, with the settings in them."""


@pytest.mark.parametrize(
    ("platform", "name"), [("darwin", "local.menny.plist"), ("linux", "menny.service")]
)
def test_an_older_service_is_upgraded_and_keeps_its_settings(
    platform: str, name: str, tmp_path: Path
) -> None:
    with machine(platform, tmp_path) as made:
        port, text = free_port(), (OLDER / name).read_text()
        for old, new in (
            ("8123", port),
            ("/Users/me", str(made.home)),
            ("/home/me", str(made.home)),
        ):
            text = text.replace(old, new)
        text = text.replace(f"{made.home}/menny/.venv/bin/python", sys.executable)
        made.file.parent.mkdir(parents=True)
        made.file.write_text(text)
        del made.environment["MENNY_STATE_DIR"]
        (made.home / "Library" / "Logs" / "Menny").mkdir(parents=True)
        (state,) = {
            "darwin": [made.home / "Library" / "Application Support" / "Menny"],
            "linux": [made.home / ".local" / "state" / "100% menny"],
        }[platform]
        state.mkdir(parents=True)
        assert made.menny("start").returncode == 0
        shown = made.menny("status")
        assert (shown.returncode, "`menny service install` renews" in shown.stdout) == (0, True)
        first = made.pid
        upgraded = made.menny("install")
        assert upgraded.returncode == 0, upgraded.stderr
        assert f"replacing {made.file}" in upgraded.stdout
        assert made.pid not in {None, first}
        assert made.env_file.stat().st_mode & 0o777 == 0o600
        settings = made.env_file.read_text().splitlines()
        assert f"MENNY_STATE_DIR='{state}'" in settings
        assert {"MENNY_MAX_QUEUE='77'", f"MENNY_PORT='{port}'"} < set(settings)
        assert "MENNY_MAX_QUEUE" not in made.file.read_text()
        assert "renews" not in made.menny("status").stdout


def test_a_setting_that_this_version_does_not_know_is_left_out(linux: Machine) -> None:
    port = free_port()
    assert linux.menny("install", "--port", port).returncode == 0
    with linux.env_file.open("a") as file:
        file.write("MENNY_OF_LONG_AGO='1'\n")
    assert linux.menny("install", MENNY_MAX_QUEUE="7").returncode == 0
    text = linux.env_file.read_text()
    assert ("LONG_AGO" in text, "MENNY_MAX_QUEUE='7'" in text) == (False, True)


def test_a_service_whose_settings_are_gone_is_not_taken_for_installed(linux: Machine) -> None:
    assert linux.menny("install", "--port", free_port()).returncode == 0
    linux.env_file.unlink()
    status = linux.menny("status")
    assert (status.returncode, "`menny service install` renews it" in status.stderr) == (1, True)


def test_a_setting_that_its_owner_got_wrong_is_named_and_not_forgotten(linux: Machine) -> None:
    assert linux.menny("install", "--port", free_port()).returncode == 0
    assert linux.menny("stop").returncode == 0
    text = linux.env_file.read_text() + "MENNY_MAX_QUEUE=many\n"
    linux.env_file.write_text(text)
    refused = linux.menny("install")
    assert (refused.returncode, "MENNY_MAX_QUEUE" in refused.stderr) == (1, True)
    assert linux.env_file.read_text() == text
    assert linux.menny("install", "--fresh", "--port", free_port()).returncode == 0


def test_settings_that_their_owner_edited_are_kept(mac: Machine) -> None:
    assert mac.menny("install", "--port", free_port()).returncode == 0
    with mac.env_file.open("a") as file:
        file.write('# my own\nMENNY_MAX_QUEUE="9"\n')
    assert "as before" in mac.menny("install").stdout
    assert "renews" not in mac.menny("status").stdout


def test_what_was_set_stays_until_it_is_forgotten_and_the_token_is_never_written(
    mac: Machine,
) -> None:
    port = free_port()
    environment = {"MENNY_MAX_QUEUE": "77", "MENNY_ADMIN_TOKEN": "a-secret-of-20-chars"}
    first = mac.menny("install", "--port", port, **environment)
    assert first.returncode == 0, first.stderr
    assert "MENNY_ADMIN_TOKEN is not written down" in first.stderr
    written = mac.file.read_text() + mac.env_file.read_text()
    assert "a-secret" not in written + first.stdout + first.stderr
    second = mac.menny("install", MENNY_MAX_BATCH="8")
    assert second.returncode == 0, second.stderr
    text = mac.env_file.read_text()
    assert all(name in text for name in ("MENNY_MAX_QUEUE", "MENNY_MAX_BATCH", port))
    third = mac.menny("install", "--fresh", "--port", port)
    assert third.returncode == 0, third.stderr
    assert "MENNY_MAX_QUEUE" not in mac.env_file.read_text()


def test_a_file_that_is_not_ours_is_replaced_and_said_to_be(linux: Machine) -> None:
    linux.file.parent.mkdir(parents=True)
    linux.file.write_text("of long ago")
    status = linux.menny("status")
    assert (status.returncode, "`menny service install` renews it" in status.stderr) == (1, True)
    installed = linux.menny("install", "--port", free_port())
    assert installed.returncode == 0, installed.stderr
    assert "which is not Menny's" in installed.stdout


def test_a_service_of_a_python_that_is_gone_says_so_and_is_renewed_with_its_port(
    mac: Machine,
) -> None:
    port = free_port()
    assert mac.menny("install", "--port", port).returncode == 0
    assert mac.menny("stop").returncode == 0
    mac.file.write_text(mac.file.read_text().replace(sys.executable, "/gone/bin/python"))
    started = mac.menny("start")
    assert (started.returncode, "/gone/bin/python" in started.stderr) == (1, True)
    assert "no longer there" in started.stderr
    renewed = mac.menny("install")
    assert renewed.returncode == 0, renewed.stderr
    assert "/gone/bin/python" in renewed.stdout
    assert f"Menny runs at http://127.0.0.1:{port}" in renewed.stdout


def test_on_a_mac_the_agent_has_descriptors_and_logs_to_a_file_that_is_bounded(
    mac: Machine,
) -> None:
    assert mac.menny("install", "--port", free_port()).returncode == 0
    folder = mac.home / "Library" / "Logs" / "Menny"
    plist = plistlib.loads(mac.file.read_bytes())
    assert plist["SoftResourceLimits"]["NumberOfFiles"] >= 2 * 1000 + 96
    assert Path(plist["StandardErrorPath"]).parent == folder
    assert f"MENNY_LOG_FILE='{folder / 'menny.log'}'" in mac.env_file.read_text()
