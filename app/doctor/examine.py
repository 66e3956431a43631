"""Which checks there are, and what of this machine each is handed."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from app.doctor import machine, manager, model, network, storage
from app.doctor.finding import Finding, fail
from app.http.server import room_for_connections
from app.service.manager import installed, manager_here
from app.service.probe import ask_health, listener_of
from app.settings import Settings
from app.state import overlooked_state
from training.cores import num_cores

ROOT = Path(__file__).resolve().parents[2]

Check = Callable[[Settings], Finding]


def examine(settings: Settings, checks: dict[str, Check]) -> Iterator[tuple[str, Finding]]:
    """Carry out the checks, in their order; one that breaks down has failed."""
    for name, check in checks.items():
        try:
            yield name, check(settings)
        except Exception as error:
            says = f"the check itself broke down: {type(error).__name__}: {error}"
            yield name, fail(says, "menny doctor --report  # and tell us")


def checks_for_service() -> dict[str, Check]:
    """What would keep an installed service from serving; takes no time."""
    return {
        "platform": lambda _: machine.check_platform(machine.this_machine()),
        "weights": lambda settings: model.check_weights(settings.weights),
        "answers": lambda settings: model.check_answers(settings.weights),
        "state": lambda settings: storage.check_state_dir(settings.state_dir, os.geteuid()),
        "space": lambda settings: storage.check_space(
            storage.free_bytes(settings.state_dir), settings.state_dir
        ),
        "database": lambda settings: storage.check_database(settings.state_dir),
        "folders": lambda settings: machine.check_folders(
            (ROOT, Path(sys.executable), settings.weights, settings.state_dir.absolute()),
            Path.home(),
            machine.this_machine().system,
        ),
        "descriptors": lambda settings: machine.check_descriptors(
            room_for_connections(settings.max_connections), settings.max_connections
        ),
        "workers": lambda settings: machine.check_workers(settings.workers, num_cores()),
    }


def quick_checks() -> dict[str, Check]:
    """Everything but what computes."""
    lock = ROOT / "requirements.lock"
    checks = checks_for_service() | {
        "packages": lambda _: machine.check_packages(lock, machine.installed_packages(lock)),
        "old state": lambda settings: storage.check_overlooked(
            overlooked_state(settings.state_dir)
        ),
        "fsync": lambda settings: storage.check_fsync(settings.state_dir),
        "lock": lambda settings: storage.check_lock(settings.state_dir),
        "port": lambda settings: network.check_port(
            url := f"http://{settings.host}:{settings.port}",
            ask_health(url),
            listener_of(settings.port),
        ),
        "localhost": lambda _: network.check_localhost(
            network.addresses_of_localhost(), network.can_listen("::1")
        ),
        "service": lambda _: manager.check_service(manager_here()),
    }
    if (ROOT / "tests").is_dir():
        checks["chromium"] = lambda _: machine.check_chromium(
            machine.find_chromium(), machine.this_machine().system
        )
    if sys.platform == "linux":
        checks |= {
            "lingering": lambda _: manager.check_lingering(
                installed(manager_here()) is not None,
                os.environ.get("USER", ""),
                Path("/var/lib/systemd/linger"),
            ),
            "sandbox": lambda _: manager.check_sandbox(Path("/proc/sys")),
        }
    return checks


def all_checks() -> dict[str, Check]:
    """The quick ones, then those that compute, some twenty seconds.

    They use MLX: to be carried out on one thread, within `training.backend.mlx_on_this_thread`.
    """
    from app.doctor import computing

    return quick_checks() | {
        "answers": computing.answers,  # in place of the quick look
        "precision": computing.precision,
        "blas": computing.blas,
        "graph": computing.graph,
        "devices": computing.devices,
        "rounding": computing.rounding,
        "training": computing.training,
        "speed": computing.speed,
    }
