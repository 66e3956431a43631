"""`menny service` with a real systemd, and its whole sandbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.container import reason_not_to

ROOT = Path(__file__).parent.parent
SYSTEMD = Path("/lib/systemd/systemd")
CGROUP = f"menny-test-{os.getpid()}"


@pytest.fixture
def _control_groups() -> Iterator[None]:
    yield
    for root in Path("/sys/fs/cgroup").glob(f"**/{CGROUP}"):
        deadline = time.monotonic() + 10
        while any(end_processes(path) for path in root.rglob("cgroup.procs")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for folder, _, _ in os.walk(root, topdown=False):
            Path(folder).rmdir()


def end_processes(group: Path) -> bool:
    """Kill what is left in a control group; whether there was anything."""
    numbers = [int(number) for number in group.read_text().split()]
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(numbers)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_control_groups")
@pytest.mark.skipif(reason_not_to() is not None, reason=str(reason_not_to()))
@pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd")
def test_menny_lives_under_a_real_systemd() -> None:
    needed = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    parents = {parent for path in needed for parent in (path, *path.parents)}
    blocked = sorted(str(path) for path in parents if not path.stat().st_mode & 0o001)
    result = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child"]
        + [str(ROOT / "tests" / "user_manager.sh"), CGROUP, "\n".join(blocked), "--"]
        + [sys.executable, "-m", "tests.systemd_life"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    if result.returncode == 77:
        pytest.skip(f"systemd's user manager did not come up: {result.stderr[-300:]}")
    assert (result.returncode, result.stdout[-6:]) == (0, "lived\n"), result.stderr
