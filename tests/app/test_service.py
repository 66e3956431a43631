"""`menny service`, against recording stand-ins for launchctl and systemctl, with a real server."""

import http.server
import plistlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.machine import Machine, free_port, machine


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Machine]:
    with machine("darwin", tmp_path) as made:
        yield made


@pytest.fixture
def linux(tmp_path: Path) -> Iterator[Machine]:
    with machine("linux", tmp_path) as made:
        yield made


@pytest.fixture(params=["darwin", "linux"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        yield made


def health(port: str) -> dict[str, object]:
    return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30, trust_env=False).json()


@pytest.mark.parametrize("tool", ["launchctl", "systemctl", "journalctl", "loginctl"])
def test_no_test_reaches_a_real_service_manager(tool: str) -> None:
    result = subprocess.run([tool, "version"], capture_output=True, text=True, timeout=10)
    assert (result.returncode, result.stderr) == (70, f"a test has called {tool}\n")


def test_a_machine_has_stand_ins_for_the_tools_of_every_platform(either: Machine) -> None:
    path = either.environment["PATH"]
    for tool in ("launchctl", "systemctl", "journalctl"):
        assert shutil.which(tool, path=path) == str(either.bin / tool)


VERBS = {
    "install": {
        "darwin": ["enable", "bootstrap"],
        "linux": ["daemon-reload", "reset-failed", "enable", "start"],
    },
    "stop": {"darwin": ["bootout"], "linux": ["stop"]},
    "uninstall": {"darwin": ["bootout"], "linux": ["disable", "daemon-reload", "reset-failed"]},
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_the_life_of_a_service(platform: str, tmp_path: Path) -> None:
    start, stop, uninstall = (VERBS[verb][platform] for verb in ("install", "stop", "uninstall"))
    port, other = free_port(), free_port()
    with machine(platform, tmp_path) as made:
        installed = made.menny("install", "--port", port)
        assert installed.returncode == 0, installed.stderr
        assert f"Menny runs at http://127.0.0.1:{port} (ok, model " in installed.stdout
        assert health(port)["status"] == "ok"
        assert made.changes() == start

        first = made.pid
        again = made.menny("install")
        assert (again.returncode, "as before" in again.stdout) == (0, True), again.stderr
        assert (made.pid, made.changes()) == (first, [])

        shown = made.menny("status")
        assert shown.returncode == 0
        for words in (f"process {first}", f":{port}", "ok, model", str(made.state), "menny token"):
            assert words in shown.stdout

        (made.bin / "settling").write_text("3")  # launchd still knows it for a while
        restarted = made.menny("restart")
        assert restarted.returncode == 0, restarted.stderr
        assert made.pid != first
        assert made.changes() == stop + start

        moved = made.menny("install", "--port", other)
        assert moved.returncode == 0, moved.stderr
        assert "replacing" in moved.stdout
        assert health(other)["status"] == "ok"
        with pytest.raises(httpx.ConnectError):
            health(port)
        assert made.changes() == stop + start

        assert made.menny("stop").returncode == 0
        assert (made.bin / "exit").read_text() == "0"  # which neither manager starts anew
        stopped = made.menny("status")
        assert (stopped.returncode, "not running" in stopped.stdout) == (1, True)
        assert made.menny("start").returncode == 0
        assert health(other)["status"] == "ok"
        made.changes()

        removed = made.menny("uninstall")
        assert removed.returncode == 0, removed.stderr
        assert f"kept {made.state}" in removed.stdout
        assert made.changes() == uninstall
        assert (made.pid, made.file.exists()) == (None, False)
        assert (made.state / "admin_token").exists()

        purged = made.menny("uninstall", "--purge", "--yes")
        assert (purged.returncode, made.state.exists()) == (0, False), purged.stderr
        left = [path.name for path in made.home.rglob("*") if path.is_file()]
        assert left == []


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
    assert (shared / "admin_token").exists()
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
    assert (either.state / "admin_token").exists()


def test_an_agent_that_a_signal_ends_is_reported_with_it(mac: Machine) -> None:
    (mac.bin / "killed").write_text("Killed: 9")
    refused = mac.menny("install", "--port", free_port())
    assert (refused.returncode, "ended by a signal, Killed: 9" in refused.stderr) == (1, True)


def test_what_was_set_stays_until_it_is_forgotten_and_the_token_is_never_written(
    mac: Machine,
) -> None:
    port = free_port()
    environment = {"MENNY_CACHE_SIZE": "77", "MENNY_ADMIN_TOKEN": "a-secret-of-20-chars"}
    first = mac.menny("install", "--port", port, **environment)
    assert first.returncode == 0, first.stderr
    assert "MENNY_ADMIN_TOKEN is not written down" in first.stderr
    assert "a-secret" not in mac.file.read_text() + first.stdout + first.stderr
    second = mac.menny("install", MENNY_MAX_BATCH="8")
    assert second.returncode == 0, second.stderr
    text = mac.file.read_text()
    assert all(name in text for name in ("MENNY_CACHE_SIZE", "MENNY_MAX_BATCH", port))
    third = mac.menny("install", "--fresh", "--port", port)
    assert third.returncode == 0, third.stderr
    assert "MENNY_CACHE_SIZE" not in mac.file.read_text()


def test_a_taken_port_is_named_before_anything_is_touched(either: Machine) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        server_version = "Somebody/1.0"

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        result = either.menny("install", "--port", str(server.server_port))
        server.shutdown()
        thread.join()
    assert result.returncode == 1
    assert "is taken: something that is not Menny answers there" in result.stderr
    assert "Somebody/1.0" in result.stderr
    assert (either.changes(), either.file.exists()) == ([], False)


def test_a_service_that_does_not_start_is_reported_with_its_last_words(
    either: Machine, tmp_path: Path
) -> None:
    result = either.menny("install", "--port", free_port(), MENNY_LOG_FILE=str(tmp_path))
    assert result.returncode == 1
    assert "error: Menny did not start: it ended with exit status 1" in result.stderr
    assert "  | error: the log file" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.1", "menny.example.org"])  # noqa: S104
def test_a_service_is_for_its_own_machine(linux: Machine, host: str) -> None:
    result = linux.menny("install", "--host", host)
    assert (result.returncode, "can be reached from other machines" in result.stderr) == (1, True)
    assert (linux.changes(), linux.file.exists()) == ([], False)


def test_a_service_that_is_not_well_is_reported_with_the_reason(
    mac: Machine, tmp_path: Path
) -> None:
    weights = tmp_path / "menny.npz"
    weights.write_bytes(b"no weights")
    result = mac.menny("install", "--weights", str(weights), "--port", free_port())
    assert result.returncode == 1
    assert "/health says unavailable:" in result.stderr
    assert "menny.npz" in result.stderr


def test_a_setting_that_makes_no_sense_is_named_and_nothing_is_touched(linux: Machine) -> None:
    result = linux.menny("install", MENNY_MAX_BATCH="many")
    assert (result.returncode, "MENNY_MAX_BATCH" in result.stderr) == (1, True)
    result = linux.menny("install", MENNY_PORT="0")
    assert (result.returncode, "a port that stays" in result.stderr) == (1, True)
    assert linux.changes() == []


@pytest.mark.parametrize("verb", ["start", "restart", "stop", "status", "logs"])
def test_without_a_service_each_verb_says_how_to_get_one(linux: Machine, verb: str) -> None:
    result = linux.menny(verb)
    assert (result.returncode, "`menny service install` does it" in result.stderr) == (1, True)


def test_without_a_service_there_is_nothing_to_remove(mac: Machine) -> None:
    result = mac.menny("uninstall")
    assert (result.returncode, "no service to remove" in result.stdout) == (0, True)


def test_a_file_that_is_not_ours_is_replaced_and_said_to_be(linux: Machine) -> None:
    linux.file.parent.mkdir(parents=True)
    linux.file.write_text("of long ago")
    status = linux.menny("status")
    assert (status.returncode, "`menny service install` renews it" in status.stderr) == (1, True)
    installed = linux.menny("install", "--port", free_port())
    assert installed.returncode == 0, installed.stderr
    assert "another version's" in installed.stdout


def test_a_service_of_a_python_that_is_gone_says_so_and_is_renewed_with_its_port(
    mac: Machine,
) -> None:
    port = free_port()
    shown = mac.menny("print", "--port", port).stdout
    mac.file.parent.mkdir(parents=True)
    mac.file.write_text(shown.replace(sys.executable, "/gone/bin/python"))
    started = mac.menny("start")
    assert (started.returncode, "/gone/bin/python" in started.stderr) == (1, True)
    assert "no longer there" in started.stderr
    renewed = mac.menny("install")
    assert renewed.returncode == 0, renewed.stderr
    assert "/gone/bin/python" in renewed.stdout
    assert health(port)["status"] == "ok"


def test_print_touches_nothing(linux: Machine) -> None:
    for name in ("launchd", "systemd"):
        result = linux.menny("print", "--for", name)
        assert result.returncode == 0, result.stderr
        assert sys.executable in result.stdout
    assert list(linux.home.iterdir()) == []
    assert linux.calls == []


def test_a_machine_without_the_manager_is_told_what_is_needed(linux: Machine) -> None:
    for name in ("launchctl", "systemctl"):
        (linux.bin / name).unlink(missing_ok=True)
    result = linux.menny("install", PATH=str(linux.bin))
    assert result.returncode == 1
    assert "needs launchd (macOS) or systemd (Linux)" in result.stderr


def test_on_a_mac_root_is_refused(mac: Machine) -> None:
    result = mac.menny("install", uid=0)
    assert (result.returncode, "without sudo" in result.stderr) == (1, True)
    assert mac.calls == []


def test_on_linux_sudo_is_refused(linux: Machine) -> None:
    result = linux.menny("install", uid=0, SUDO_USER="somebody")
    assert (result.returncode, "without sudo" in result.stderr) == (1, True)
    assert linux.calls == []


def test_without_a_login_at_the_screen_launchd_has_no_place_for_it(mac: Machine) -> None:
    (mac.bin / "fail-bootstrap").write_text(
        "125 Bootstrap failed: 125: Domain does not support specified action"
    )
    result = mac.menny("install", "--port", free_port())
    assert (result.returncode, "log in there" in result.stderr) == (1, True)


def test_without_a_bus_systemd_says_how_to_get_one(linux: Machine) -> None:
    (linux.bin / "fail-show").write_text("1 Failed to connect to bus: No medium found")
    result = linux.menny("install")
    assert (result.returncode, "loginctl enable-linger" in result.stderr) == (1, True)


def test_a_machine_that_gives_users_no_namespaces_can_do_without_the_sandbox(
    linux: Machine,
) -> None:
    port = free_port()
    (linux.bin / "exit").write_text("226")
    (linux.bin / "fail-start").write_text("1 Job for menny.service failed")
    (linux.bin / "fail-reset-failed").write_text("0 ")
    refused = linux.menny("install", "--port", port)
    assert (refused.returncode, "--no-sandbox" in refused.stderr) == (1, True)
    for failure in linux.bin.glob("fail-*"):
        failure.unlink()
    assert linux.menny("install", "--no-sandbox").returncode == 0
    text = linux.file.read_text()
    assert ("PrivateUsers" in text, "NoNewPrivileges=yes" in text) == (False, True)
    assert "as before" in linux.menny("install").stdout  # it stays chosen


def test_logs_shows_the_log(either: Machine) -> None:
    port = free_port()
    assert either.menny("install", "--port", port).returncode == 0
    result = either.menny("logs", "-n", "5")
    assert (result.returncode, f"listening on http://127.0.0.1:{port}" in result.stdout) == (
        0,
        True,
    )


def test_on_a_mac_the_log_is_bounded_and_the_agent_says_where_it_is(mac: Machine) -> None:
    port = free_port()
    environment = {"MENNY_LOG_MAX_BYTES": "10000", "MENNY_LOG_BACKUPS": "2"}
    assert mac.menny("install", "--port", port, MENNY_ACCESS_LOG="1", **environment).returncode == 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        for _ in range(800):
            client.get("/health/live")
        client.get("/health/live", headers={"X-Request-ID": "the-last-one"})
        client.get("/health/live")  # on the same connection: the one before has been logged
    folder = mac.home / "Library" / "Logs" / "Menny"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes.pop("menny.crash.log") == 0
    assert sizes.keys() == {"menny.log", "menny.log.1", "menny.log.2"}
    assert max(sizes.values()) <= 10_000
    assert "the-last-one" in (folder / "menny.log").read_text()
    plist = plistlib.loads(mac.file.read_bytes())
    assert Path(plist["StandardErrorPath"]).parent == folder
    assert plist["EnvironmentVariables"]["MENNY_LOG_FILE"] == str(folder / "menny.log")
