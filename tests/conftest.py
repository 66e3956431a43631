"""What all tests share; see `tests.service` (a real server) and `tests.in_process` (none)."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import settings as hypothesis_settings

from tests.in_process import InProcess, in_process
from tests.service import Service, python_path, running_service
from training.backend import mlx_on_this_thread

_PS_OF_A_MAC = """#!/bin/sh
for word; do
    case $word in
        --*|-*[!AaCcEefhjlMmrSTvwXxOoGgptUu]*) echo "ps: illegal option -- $word" >&2; exit 1;;
    esac
done
exec {ps} "$@"
"""

# A deadline for an example would be a time limit that a busy machine breaks.
hypothesis_settings.register_profile("menny", deadline=None)
hypothesis_settings.load_profile("menny")


def pytest_configure() -> None:
    """Give the processes that tests start the same world whoever runs the tests, and how."""
    for name in [name for name in os.environ if name.startswith("MENNY_")]:
        del os.environ[name]
    os.environ["PYTHONPATH"] = python_path()
    for signum in (signal.SIGINT, signal.SIGHUP):  # `(make test &)` and nohup ignore them, and
        if signal.getsignal(signum) is signal.SIG_IGN:  # every process would inherit it
            signal.signal(signum, _do_nothing)


DEAR = (
    "tests/test_static",
    "tests/training/test_settling",
    "tests/end_to_end",
    "tests/jobs",
    "tests/playground",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left alone with it at the end."""
    items.sort(
        key=lambda item: next(
            (at for at, dear in enumerate(DEAR) if item.nodeid.startswith(dear)), len(DEAR)
        )
    )


def _do_nothing(*_: object) -> None:
    """Ignores a signal here; a process that is started from here gets the default."""


@pytest.fixture(scope="session", autouse=True)
def _clear_mlx_streams() -> Iterator[None]:
    with mlx_on_this_thread():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_real_service_manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """First on every test's PATH are tools that fail: no test may change the services of this user.

    A test that wants an answer of them puts its own stand-in before these. So that the tests run on
    a Mac too, `ps` knows only the options that BSD's has.
    """
    folder = tmp_path_factory.mktemp("no-service-manager")
    for name in ("launchctl", "systemctl", "journalctl", "loginctl"):
        tool = folder / name
        tool.write_text(f"#!/bin/sh\necho 'a test has called {name}' >&2\nexit 70\n")
        tool.chmod(0o755)
    ps = folder / "ps"
    ps.write_text(_PS_OF_A_MAC.format(ps=shutil.which("ps")))
    ps.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every httpx.Client reads all of certifi's authorities, 40 ms long; no test needs any."""
    first = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text("".join(first[:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service with the shipped weights, shared by the tests that only ask it things."""
    with running_service() as running:
        yield running


@pytest.fixture(scope="session")
def asked_in_process() -> Iterator[InProcess]:
    """The application with the shipped weights, shared by the tests that only ask it things."""
    with in_process() as running:
        yield running
