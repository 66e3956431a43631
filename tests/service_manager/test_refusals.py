"""What stands in the way of a service is said, with what would help."""

import http.server
import subprocess
import threading
from pathlib import Path

import pytest

from tests.service_manager.machine import Machine, free_port, machine


@pytest.mark.parametrize("tool", ["launchctl", "systemctl", "journalctl", "loginctl"])
def test_no_test_reaches_a_real_service_manager(tool: str) -> None:
    result = subprocess.run([tool, "version"], capture_output=True, text=True, timeout=10)
    assert (result.returncode, result.stderr) == (70, f"a test has called {tool}\n")


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


def test_an_agent_that_a_signal_ends_is_reported_with_it(mac: Machine) -> None:
    mac.ends_with = "Killed: 9"
    refused = mac.menny("install", "--port", free_port())
    assert (refused.returncode, "ended by a signal, Killed: 9" in refused.stderr) == (1, True)


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
