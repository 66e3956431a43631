"""`menny service` on stand-ins for launchd and systemd: once with a real server, then without."""

import plistlib
import shutil
import sys
from pathlib import Path

import httpx
import pytest

from tests.service_manager.machine import Machine, free_port, machine

VERBS = {
    "install": {
        "darwin": ["enable", "bootstrap"],
        "linux": ["daemon-reload", "reset-failed", "enable", "start"],
    },
    "stop": {"darwin": ["bootout"], "linux": ["stop"]},
    "uninstall": {"darwin": ["bootout"], "linux": ["disable", "daemon-reload", "reset-failed"]},
}


def health(port: str) -> dict[str, object]:
    return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30, trust_env=False).json()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_the_life_of_a_service(platform: str, tmp_path: Path) -> None:
    port = free_port()
    with machine(platform, tmp_path, real=True) as made:
        installed = made.menny("install", "--port", port)
        assert installed.returncode == 0, installed.stderr
        assert f"Menny runs at http://127.0.0.1:{port} (ok, model " in installed.stdout
        answer = httpx.post(
            f"http://127.0.0.1:{port}/transform", json={"query": "MeM"}, trust_env=False, timeout=30
        )
        assert (answer.status_code, len(answer.json()["response"])) == (200, 3)
        shown = made.menny("status")
        assert shown.returncode == 0
        for words in (
            f"process {made.pid}",
            f":{port}",
            "ok, model",
            str(made.state),
            "menny token",
        ):
            assert words in shown.stdout
        log = made.journal if platform == "linux" else made.home / "Library/Logs/Menny/menny.log"
        assert f"listening on http://127.0.0.1:{port}" in log.read_text()

        assert made.menny("stop").returncode == 0
        assert made.exit_status == 0  # which neither manager starts anew
        removed = made.menny("uninstall")
        assert removed.returncode == 0, removed.stderr
        assert f"kept {made.state}" in removed.stdout
        assert (made.pid, made.file.exists(), made.env_file.exists()) == (None, False, False)
        assert (made.state / "admin_token").exists()

        purged = made.menny("uninstall", "--purge", "--yes")
        assert (purged.returncode, made.state.exists()) == (0, False), purged.stderr
        left = [path.name for path in made.home.rglob("*") if path.is_file()]
        assert left == []


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_what_each_verb_asks_of_the_manager(platform: str, tmp_path: Path) -> None:
    start, stop, uninstall = (VERBS[verb][platform] for verb in ("install", "stop", "uninstall"))
    port, other = free_port(), free_port()
    with machine(platform, tmp_path) as made:
        assert made.menny("install", "--port", port).returncode == 0
        assert made.changes() == start

        first = made.pid
        again = made.menny("install")
        assert (again.returncode, "as before" in again.stdout) == (0, True), again.stderr
        assert (made.pid, made.changes()) == (first, [])

        made.settling = 3  # launchd still knows it for a while
        restarted = made.menny("restart")
        assert restarted.returncode == 0, restarted.stderr
        assert made.pid != first
        assert made.changes() == stop + start

        moved = made.menny("install", "--port", other)
        assert moved.returncode == 0, moved.stderr
        assert health(other)["status"] == "ok"
        with pytest.raises(httpx.ConnectError):
            health(port)
        assert made.changes() == stop + start

        assert made.menny("stop").returncode == 0
        stopped = made.menny("status")
        assert (stopped.returncode, "not running" in stopped.stdout) == (1, True)
        assert made.menny("start").returncode == 0
        assert health(other)["status"] == "ok"
        made.changes()

        assert made.menny("uninstall").returncode == 0
        assert made.changes() == uninstall


def test_starting_what_runs_leaves_it_running(either: Machine) -> None:
    assert either.menny("install", "--port", free_port()).returncode == 0
    before = either.pid
    again = either.menny("start")
    assert (again.returncode, "Menny runs at" in again.stdout) == (0, True), again.stderr
    assert either.pid == before


def test_purge_removes_what_is_mennys_and_nothing_else(either: Machine, tmp_path: Path) -> None:
    shared, logs = tmp_path / "Documents", tmp_path / "notes"
    shared.mkdir()
    logs.mkdir()
    thesis, diary = shared / "thesis.txt", logs / "diary.txt"
    thesis.write_text("years of work")
    diary.write_text("dear diary")
    environment = {"MENNY_STATE_DIR": str(shared), "MENNY_LOG_FILE": str(logs / "she.log")}
    installed = either.menny("install", "--port", free_port(), **environment)
    assert installed.returncode == 0, installed.stderr
    (shared / "admin_token").touch()
    (logs / "she.log").touch()
    purged = either.menny("uninstall", "--purge", "--yes")
    assert purged.returncode == 0, purged.stderr
    assert "that are not Menny's" in purged.stdout
    assert (list(shared.iterdir()), list(logs.iterdir())) == ([thesis], [diary])


def test_purge_empties_a_folder_behind_a_link(linux: Machine, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    installed = linux.menny("install", "--port", free_port(), MENNY_STATE_DIR=str(link))
    assert installed.returncode == 0, installed.stderr
    (real / "menny.sqlite3").touch()
    purged = linux.menny("uninstall", "--purge", "--yes")
    assert (purged.returncode, "which is a link" in purged.stdout) == (0, True), purged.stderr
    assert (list(real.iterdir()), link.is_symlink()) == ([], True)


def test_after_its_folders_were_removed_it_starts_with_new_ones(either: Machine) -> None:
    assert either.menny("install", "--port", free_port()).returncode == 0
    assert either.menny("stop").returncode == 0
    shutil.rmtree(either.state)
    shutil.rmtree(either.home / "Library" / "Logs", ignore_errors=True)
    started = either.menny("start")
    assert started.returncode == 0, started.stderr
    assert either.state.stat().st_mode & 0o777 == 0o700


def test_print_touches_nothing(linux: Machine) -> None:
    for name in ("launchd", "systemd"):
        result = linux.menny("print", "--for", name, "--port", "8123")
        assert result.returncode == 0, result.stderr
        assert sys.executable in result.stdout
        assert "MENNY_PORT='8123'" in result.stderr
    assert list(linux.home.iterdir()) == []
    assert linux.calls == []


def test_logs_shows_the_log(either: Machine) -> None:
    assert either.menny("install", "--port", free_port()).returncode == 0
    assert either.menny("logs", "-n", "5").returncode == 0
    assert either.executed[0] in {"tail", "journalctl"}
    assert "5" in either.executed


def test_on_a_mac_stopping_takes_as_long_as_the_plist_allows(mac: Machine) -> None:
    mac.environment["MENNY_SHUTDOWN_TIMEOUT_S"] = "300"
    assert mac.menny("install", "--port", free_port()).returncode == 0
    assert plistlib.loads(mac.file.read_bytes())["ExitTimeOut"] == 310
    assert mac.menny("stop").returncode == 0
    assert mac.patience["bootout"] > 310
