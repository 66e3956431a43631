"""What Linux has and a Mac lacks is not needed: this machine, made poorer, does as well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.damage.places import damaged_places

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tests" / "as_on_a_mac.sh"

WITHOUT_A_BROWSER = [
    "tests/cli",
    "tests/doctor",
    "tests/http/test_binding.py",
    "tests/http/test_limits.py",
    "tests/http/test_room.py",
    "tests/jobs/test_children.py",
    "tests/service_manager",
    "tests/training/test_child.py",
    "tests/training/test_damaged_weights.py",
]


def as_on_a_mac(*command: str | Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *command], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


def _may_be_made_poorer() -> bool:
    try:
        return as_on_a_mac("true").returncode == 0
    except OSError:
        return False


poorer = pytest.mark.skipif(
    not _may_be_made_poorer(), reason="this user may not make namespaces (unshare, ip)"
)


@poorer
def test_a_machine_that_was_made_poorer_lacks_what_a_mac_lacks() -> None:
    code = (
        "import os, resource, socket\n"
        "print(os.listdir('/proc/self'), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_server(('127.0.0.2', 0))\n"
    )
    done = as_on_a_mac(sys.executable, "-c", code)
    assert done.stdout == "['fd'] 256\n"
    assert "127.0.0.2" in done.stderr
    assert "sh -c ps" in as_on_a_mac("sh", "-c", "ps -A -o pid=,args=; true").stdout


@poorer
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_there_the_tests_are_green_too() -> None:
    options = ("--quiet", "-n0", "-p", "no:cacheprovider", "--junit-xml=")
    done = as_on_a_mac(sys.executable, "-m", "pytest", *options, *WITHOUT_A_BROWSER, timeout=1700)
    print(done.stdout)
    assert done.returncode == 0


def test_the_ps_of_the_tests_knows_only_the_options_of_a_macs() -> None:
    def ps(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ps", *options], capture_output=True, text=True, timeout=30)

    me = str(os.getpid())
    assert ps("-o", "pid=", "-p", me).stdout.strip() == me
    for options in (["--pid", me], ["-N", me], ["--no-headers"]):
        assert ps(*options).returncode == 1


def test_a_socket_can_be_put_into_a_folder_whose_path_no_socket_address_could_hold(
    tmp_path: Path,
) -> None:
    """macOS has room for 103 bytes, Linux for 107."""
    (a_socket,) = (place for place in damaged_places() if place.name.startswith("a socket"))
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    a_socket.make(folder / "weights.npz")
    assert (folder / "weights.npz").is_socket()
