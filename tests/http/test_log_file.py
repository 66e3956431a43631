"""MENNY_LOG_FILE: a log whose size is bounded, on a disk that may be full or gone."""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.logs import BoundedFileHandler
from tests.service import clean_environment
from tests.service_manager.machine import free_port
from tests.waiting import eventually

MAX_BYTES = 10_000


@contextmanager
def logging_service(log: Path, stderr: Path, **environment: str) -> Iterator[httpx.Client]:
    """A service that logs each request to `log`; stopped gently at the end."""
    port = free_port()
    variables = {
        "MENNY_ACCESS_LOG": "1",
        "MENNY_LOG_FILE": str(log),
        "MENNY_LOG_MAX_BYTES": str(MAX_BYTES),
        "MENNY_LOG_BACKUPS": "2",
        "MENNY_STATE_DIR": str(log.parent.parent / "state"),
        **environment,
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--port", port]
    with (
        stderr.open("ab") as errors,
        subprocess.Popen(command, env=clean_environment() | variables, stderr=errors) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
    ):
        try:
            assert healthy(client, process), log.read_text()
            yield client
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def healthy(client: httpx.Client, process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.ConnectError):
            if client.get("/health").json()["engine"] == "ok":  # which is logged, last of all
                return True
        time.sleep(0.05)
    return False


def test_the_log_stays_within_its_bound_and_outlives_its_directory(tmp_path: Path) -> None:
    log, stderr = tmp_path / "logs" / "menny.log", tmp_path / "stderr"
    stderr.write_text("an old crash\n" * 1000)
    with logging_service(log, stderr, MENNY_LOG_FORMAT="json") as client:
        assert stderr.read_text() == ""  # it was beyond the bound
        for number in range(600):
            client.get("/health/live", headers={"X-Request-ID": f"request-{number}"})
        eventually(lambda: "request-599" in log.read_text())  # a line is written after its answer
        files = sorted(log.parent.iterdir())
        assert [path.name for path in files] == ["menny.log", "menny.log.1", "menny.log.2"]
        assert sum(path.stat().st_size for path in files) <= 3 * MAX_BYTES
        seen = [
            json.loads(line)["request_id"]
            for path in reversed(files)
            for line in path.read_text().splitlines()
        ]
        assert seen == [f"request-{600 - len(seen) + index}" for index in range(len(seen))]

        shutil.rmtree(log.parent)
        for _ in range(200):
            assert client.get("/health/live").status_code == 200
        assert log.exists()
    assert stderr.read_text() == ""


def test_a_wrong_setting_does_not_fill_the_disk_at_each_start(tmp_path: Path) -> None:
    stderr = tmp_path / "stderr"
    stderr.write_text("error: port\n" * 500_000)
    environment = {"MENNY_LOG_FILE": str(tmp_path / "menny.log"), "MENNY_PORT": "many"}
    with stderr.open("a") as file:
        command = [sys.executable, "-m", "app.cli", "serve"]
        ended = subprocess.run(command, env=clean_environment() | environment, stderr=file)
    assert ended.returncode == 2
    assert "MENNY_PORT" in stderr.read_text()
    assert stderr.stat().st_size < 5000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_on_a_full_disk_it_serves_on_and_complains_once(tmp_path: Path) -> None:
    log, stderr = tmp_path / "logs" / "menny.log", tmp_path / "stderr"
    log.parent.mkdir()
    log.symlink_to("/dev/full")
    with logging_service(log, stderr) as client:
        for _ in range(50):
            assert client.get("/health/live").status_code == 200
    assert stderr.read_text().count("the log file can't be written") == 1
    assert "Traceback" not in stderr.read_text()


def test_a_log_file_that_can_never_be_written_is_named(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        env=clean_environment() | {"MENNY_LOG_FILE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "name another MENNY_LOG_FILE" in result.stderr
    assert "Traceback" not in result.stderr


def test_handlers_that_share_a_file_keep_its_bound_and_every_line_that_is_kept(
    tmp_path: Path,
) -> None:
    log, num_lines = tmp_path / "menny.log", 300
    handlers = [BoundedFileHandler(log, 10_000, backups=9) for _ in range(3)]

    def write(handler: BoundedFileHandler, number: int) -> None:
        for line in range(num_lines):
            text = f"handler {number} line {line:<80}"
            handler.emit(logging.LogRecord("test", logging.INFO, "", 0, text, (), None))

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, handlers, range(3)))
    for handler in handlers:
        handler.close()
    files = [log, *tmp_path.glob("menny.log.*")]
    assert max(file.stat().st_size for file in files) <= 10_000 + 3 * 100
    lines = [line.rstrip() for file in files for line in file.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 3 * num_lines
