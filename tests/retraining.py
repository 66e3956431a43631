"""What the tests of retraining share: a service to retrain, and ways to look at it from outside."""

import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import numpy as np

from tests.service import Service, running_service
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights, save_weights

POLL_S = 0.1
"""Each look costs the service, or `ps`, some milliseconds that the tests beside this one need."""

TOKEN = "a-token-for-the-tests"  # noqa: S105 - it guards nothing
ADMIN = {"Authorization": f"Bearer {TOKEN}"}

TINY = {"num_samples": 200, "num_epochs": 2, "batch_size": 64}
LONG = {"num_samples": 2000, "num_epochs": 1000, "batch_size": 200}


def retrainable_service(
    state: Path,
    *,
    before_exec: Callable[[], object] | None = None,
    cwd: Path | None = None,
    **environment: str,
) -> AbstractContextManager[Service]:
    """A service whose gate measures on few queries, so that tests are quick."""
    settings = {
        "MENNY_STATE_DIR": str(state),
        "MENNY_ADMIN_TOKEN": TOKEN,
        "MENNY_GATE_QUERIES": "100",
    }
    return running_service(before_exec=before_exec, cwd=cwd, **(settings | environment))


@contextmanager
def admin_of(service: Service) -> Iterator[httpx.Client]:
    """A client that may do everything."""
    with httpx.Client(base_url=service.url, headers=ADMIN, timeout=60, trust_env=False) as client:
        yield client


def put_versions(state: Path, count: int) -> list[str]:
    """Versions that nobody has to train, with answers of their own: taken in at the next start.

    The oldest first.
    """
    shipped = load_weights(SHIPPED_WEIGHTS)
    (state / "versions").mkdir(parents=True, exist_ok=True)
    names = []
    for seed in range(count):
        bias = shipped.parameters["fc.bias"]
        noise = np.random.default_rng(seed).normal(0, 5, bias.shape).astype(bias.dtype)
        parameters = dict(shipped.parameters) | {"fc.bias": bias + noise}
        made = state / "made.npz"
        names.append(save_weights(made, parameters, shipped.card).sha256[:12])
        made.rename(state / "versions" / f"{names[-1]}.npz")
        card_path(made).rename(state / "versions" / f"{names[-1]}.json")
    return names


def start_job(admin: httpx.Client, **fields: object) -> int:
    response = admin.post("/train", json=fields)
    assert response.status_code == 202, response.text
    job_id: int = response.json()["id"]
    return job_id


def job_of(admin: httpx.Client, job_id: int) -> dict[str, object]:
    response = admin.get(f"/train/{job_id}")
    assert response.status_code == 200, response.text
    return response.json()


def wait_for(
    admin: httpx.Client,
    job_id: int,
    happened: Callable[[dict[str, object]], bool],
    timeout_s: float = 240,
) -> dict[str, object]:
    deadline = time.monotonic() + timeout_s
    while not happened(job := job_of(admin, job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(POLL_S)
    return job


def has_ended(job: dict[str, object]) -> bool:
    return job["state"] not in {"queued", "running"}


def run_job(admin: httpx.Client, **fields: object) -> dict[str, object]:
    return wait_for(admin, start_job(admin, **fields), has_ended)


def children_of(state: Path) -> list[int]:
    """The processes that work for the service with this state directory."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True
    )
    found = []
    for line in listing.stdout.splitlines():
        pid, status, arguments = line.split(maxsplit=2)
        if str(state / "staging") in arguments and not status.startswith("Z"):
            found.append(int(pid))
    return found


def assert_no_child_is_left(state: Path, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while children := children_of(state):
        assert time.monotonic() < deadline, f"orphans: {children}"
        time.sleep(POLL_S)


def assert_state_is_whole(state: Path) -> None:
    """The database is sound, every version in it can be loaded, and there is no other file."""
    with sqlite3.connect(state / "menny.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = [version for (version,) in database.execute("SELECT version FROM versions")]
    database.close()
    for version in rows:
        weights = load_weights(state / "versions" / f"{version}.npz")
        assert weights.version == version
        assert weights.card is not None
    expected = {f"{version}{suffix}" for version in rows for suffix in (".npz", ".json")}
    assert {path.name for path in (state / "versions").iterdir()} == expected
    assert not list((state / "staging").glob("*"))
