"""`menny service` on stand-ins for launchd and systemd: once with a real server, then without."""

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

from tests.service_manager.machine import Machine, free_port, machine

OLDER = Path(__file__).parent / "older"
"""A plist and a unit as version 0.1.0 wrote them at first, with the settings in them."""


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


def test_an_agent_that_a_signal_ends_is_reported_with_it(mac: Machine) -> None:
    mac.ends_with = "Killed: 9"
    refused = mac.menny("install", "--port", free_port())
    assert (refused.returncode, "ended by a signal, Killed: 9" in refused.stderr) == (1, True)


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


def test_a_service_that_does_not_start_is_reported_with_its_last_words(either: Machine) -> None:
    either.ends_with = 1
    result = either.menny("install", "--port", free_port())
    assert result.returncode == 1
    assert "Menny did not start: it ended with exit status 1" in result.stderr
    assert "  | her last words" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.1", "menny.example.org"])  # noqa: S104
def test_a_service_is_for_its_own_machine(linux: Machine, host: str) -> None:
    result = linux.menny("install", "--host", host)
    assert (result.returncode, "can be reached from other machines" in result.stderr) == (1, True)
    assert (linux.changes(), linux.file.exists()) == ([], False)


def test_a_service_that_is_not_healthy_is_reported_with_the_reason(mac: Machine) -> None:
    mac.health = {"status": "unavailable", "reason": "menny.npz is damaged"}
    result = mac.menny("install", "--port", free_port())
    assert result.returncode == 1
    assert "/health says unavailable: menny.npz is damaged" in result.stderr


def test_install_says_first_what_would_fail(linux: Machine, tmp_path: Path) -> None:
    result = linux.menny("install", "--port", free_port(), "--weights", str(tmp_path / "none.npz"))
    lines = result.stderr.splitlines()
    (found,) = (number for number, line in enumerate(lines) if line.startswith("fail  weights: "))
    assert "menny train" in lines[found + 1]


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
    assert health(port)["status"] == "ok"


def test_print_touches_nothing(linux: Machine) -> None:
    for name in ("launchd", "systemd"):
        result = linux.menny("print", "--for", name, "--port", "8123")
        assert result.returncode == 0, result.stderr
        assert sys.executable in result.stdout
        assert "MENNY_PORT='8123'" in result.stderr
    assert list(linux.home.iterdir()) == []
    assert linux.calls == []


def test_a_machine_without_the_manager_is_told_what_is_needed(
    either: Machine, tmp_path: Path
) -> None:
    result = either.menny("install", PATH=str(tmp_path))
    assert result.returncode == 1
    assert "needs launchd (macOS) or systemd (Linux)" in result.stderr


def test_another_platform_is_told_to_use_its_own_supervisor(tmp_path: Path) -> None:
    with machine("freebsd14", tmp_path) as made:
        result = made.menny("status")
    assert (result.returncode, "your own supervisor" in result.stderr) == (1, True)


def test_root_is_refused(either: Machine) -> None:
    result = either.menny("install", uid=0)
    assert (result.returncode, "without sudo" in result.stderr) == (1, True)
    assert either.calls == []


def test_without_a_login_at_the_screen_launchd_has_no_place_for_it(mac: Machine) -> None:
    mac.has_screen = False
    result = mac.menny("install", "--port", free_port())
    assert (result.returncode, "log in there" in result.stderr) == (1, True)
    assert mac.changes() == []  # `bootstrap` would fail with 125, or for a while with 5


def test_without_a_bus_systemd_says_how_to_get_one(linux: Machine) -> None:
    linux.failing["show"] = (1, "Failed to connect to bus: No medium found")
    result = linux.menny("install")
    assert (result.returncode, "loginctl enable-linger" in result.stderr) == (1, True)


def test_without_systemd_that_is_said_and_nothing_of_lingering(linux: Machine) -> None:
    linux.has_systemd = False
    linux.failing["show"] = (1, "System has not been booted with systemd as init system")
    result = linux.menny("install")
    assert result.returncode == 1
    assert result.stderr.startswith("error: systemd isn't running here")
    assert "linger" not in result.stderr


def test_a_machine_that_gives_users_no_namespaces_can_do_without_the_sandbox(
    linux: Machine,
) -> None:
    port = free_port()
    linux.ends_with = 226
    refused = linux.menny("install", "--port", port)
    assert (refused.returncode, "--no-sandbox" in refused.stderr) == (1, True)
    linux.ends_with = None
    assert linux.menny("install", "--no-sandbox").returncode == 0
    text = linux.file.read_text()
    assert ("PrivateUsers" in text, "NoNewPrivileges=yes" in text) == (False, True)
    assert "as before" in linux.menny("install").stdout  # it stays chosen


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


def test_on_a_mac_the_agent_has_descriptors_and_logs_to_a_file_that_is_bounded(
    mac: Machine,
) -> None:
    assert mac.menny("install", "--port", free_port()).returncode == 0
    folder = mac.home / "Library" / "Logs" / "Menny"
    plist = plistlib.loads(mac.file.read_bytes())
    assert plist["SoftResourceLimits"]["NumberOfFiles"] >= 2 * 1000 + 96
    assert Path(plist["StandardErrorPath"]).parent == folder
    assert f"MENNY_LOG_FILE='{folder / 'menny.log'}'" in mac.env_file.read_text()
