"""A real `menny serve` in a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SITE = Path(__file__).parent / "site"
START_TIMEOUT_S = 120


class Service:
    """A running service; `log` has what it wrote to stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._wait_for_url()
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def transform(self, query: str, **fields: object) -> dict[str, object]:
        response = self.client.post("/transform", json={"query": query, **fields})
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal and wait; returns the exit status as subprocess has it."""
        self.client.close()
        return self.stop_while_busy(signum, timeout)

    def stop_while_busy(self, signum: int, timeout: float = 30) -> int:
        """The same, without closing the client's connections first."""
        self.process.send_signal(signum)
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._lines.extend(lines)  # line by line, until the process ends

    def wait_for_model(self) -> None:
        """A table answers before the model is there."""
        while self.client.get("/health").json().get("engine") == "starting":
            time.sleep(0.05)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"listening on (http://[\w.:\[\]]+)", self.log):
                return found[1]
            time.sleep(0.01)
        self._reader.join(1)
        raise AssertionError(f"the service did not start:\n{self.log}")


@contextmanager
def running_service(
    *arguments: str,
    before_exec: Callable[[], object] | None = None,
    cwd: Path | None = None,
    **environment: str | Path,
) -> Iterator[Service]:
    """Run `menny serve --port 0 ARGUMENTS` with more environment variables; kill it at the end.

    Its state directory is a fresh one unless MENNY_STATE_DIR is given, nothing is proven unless
    MENNY_PROVE is; `before_exec` is called in
    the new process first, to set limits.
    """
    with (
        tempfile.TemporaryDirectory(prefix="menny-state-") as own_state,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli", "serve", "--port", "0", *arguments],
            env=clean_environment()
            | {"MENNY_STATE_DIR": own_state, "MENNY_PROVE": "never"}
            | {name: str(value) for name, value in environment.items()},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before_exec,
            cwd=cwd,
        ) as process,
    ):
        try:
            service = Service(process)
            try:
                service.wait_for_model()
                yield service
            finally:
                service.client.close()
        finally:
            process.kill()


def clean_environment() -> dict[str, str]:
    """The environment without any MENNY_ setting of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MENNY_")}


def python_path(folder: Path = SITE, code: str = "") -> str:
    """A PYTHONPATH with which every Python process runs `code` first, from a file in `folder`.

    What it imports is this checkout, even if another one is installed.
    """
    if code:
        general = (SITE / "sitecustomize.py").read_text()
        (folder / "sitecustomize.py").write_text(f"{general}\n{code}")
    return f"{folder}{os.pathsep}{SITE.parents[1]}"
