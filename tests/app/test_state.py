"""Where the state directory is."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from app.state import default_state_dir, log_state_dir, overlooked_state, state_dir_of
from tests.service import Service, clean_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return tmp_path


def test_a_checkout_keeps_its_own_state_whatever_the_current_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".menny").mkdir()
    (tmp_path / ".env").write_text("MENNY_STATE_DIR=/from/a/stranger\nMENNY_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert (settings.state_dir, settings.port) == (ROOT / ".menny", 8000)
    assert settings.state_dir == default_state_dir()


def test_a_process_in_another_folder_has_the_same_state(tmp_path: Path) -> None:
    code = "from app.state import default_state_dir as d; print(d())"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == f"{ROOT / '.menny'}\n"


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("darwin", "Library/Application Support/Menny"), ("linux", ".local/share/menny")],
)
def test_where_menny_is_installed_it_is_the_users_data_directory(
    home: Path, platform: str, expected: str
) -> None:
    installed = home / "site-packages"
    installed.mkdir()
    assert state_dir_of(installed, platform) == home / expected


def test_a_checkout_that_may_not_be_written_is_as_good_as_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "pyproject.toml").write_text("")
    assert state_dir_of(home, "linux") == home / ".menny"
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    assert state_dir_of(home, "linux") != home / ".menny"


def test_menny_state_dir_is_above_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENNY_STATE_DIR", str(tmp_path))
    assert Settings().state_dir == tmp_path


def test_an_old_state_in_the_current_folder_is_mentioned_and_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    state_dir = tmp_path / "state"
    assert overlooked_state(state_dir) is None
    (tmp_path / ".menny").mkdir()
    said = overlooked_state(state_dir)
    assert said is not None
    assert f"MENNY_STATE_DIR='{tmp_path / '.menny'}'" in said
    assert overlooked_state(tmp_path / ".menny") is None
    with caplog.at_level(logging.INFO):
        log_state_dir(state_dir)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert said in caplog.text


def test_the_log_says_where_the_state_is(service: Service) -> None:
    assert "the state directory is /" in service.log
