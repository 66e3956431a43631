"""kill -9 at every step of putting a version in, deleting one and activating one."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, which forks: MLX and its threads must not be in it.
CODE = """
import os, signal, sys, tempfile
from pathlib import Path
from app.jobs.database import Database
from prometheus_client import CollectorRegistry
from app.jobs.metrics import JobMetrics
from app.jobs.proving import Prover
from app.jobs.serving import Serving
from app.jobs.verdicts import Verdicts
from app.jobs.store import Store
from app.jobs.versions import Versions
from app.jobs.job import Promote
from tests.jobs.house import (
    SHIPPED_FILE, SHIPPED_WEIGHTS, ScriptedChildren, ScriptedEngine, make_weights, version_of,
)
from training.config import Recipe, TrainingConfig
from training.weights import Weights, load_weights

assert "mlx.core" not in sys.modules


def opened(state):
    folder = state / "versions"
    folder.mkdir(exist_ok=True)
    database = Database(state / "menny.sqlite3")
    store, engine = Store(database), ScriptedEngine()
    serving = Serving(engine, SHIPPED_WEIGHTS, folder)
    children, metrics = ScriptedChildren(), JobMetrics(CollectorRegistry())
    prover = Prover(
        Verdicts(database), serving, children, state / "staging", state / "answers", metrics,
        is_automatic=False, wants_table=False,
    )
    versions = Versions(store, serving, prover, folder, keep=1)
    store.interrupt_jobs("killed")
    versions.take_in()
    serving.reload(store.get_active_version)
    return database, store, versions, serving, engine


def candidate(seed):
    parameters, card = make_weights(seed)
    return Weights(parameters, version_of(seed) + "0" * 52, card), card


def act(state):
    # A version is put in, another one is pruned for it; one is activated, one deleted.
    _, store, versions, _, _ = opened(state)
    for seed in (3, 4):
        job = store.create_job(Recipe.DEFAULT, TrainingConfig(), Promote.ALWAYS)
        store.start_job(job.id)
        versions.promote(*candidate(seed), job.id, measured_against=None)
        store.end_job(job.id, "succeeded", "it is in")
    versions.activate("shipped")
    versions.delete(version_of(4))


def killed_at(step, state):
    # Counts what reaches the disk: fsync, rename, unlink, and SQLite's commits.
    count = 0

    def counted(function):
        def call(*arguments, **named):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return call

    for name in ("fsync", "replace", "unlink", "link", "rename"):
        setattr(os, name, counted(getattr(os, name)))
    transaction = Database.transaction
    Database.transaction = counted(transaction)
    act(state)
    os._exit(0)


steps = 0
while True:
    steps += int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        database, store, versions, serving, engine = opened(state)
        job = store.create_job(Recipe.DEFAULT, TrainingConfig(), Promote.ALWAYS)
        versions.promote(*candidate(1), job.id, measured_against=None)
        store.end_job(job.id, "succeeded", "it is in")
        database.close()
        pid = os.fork()
        if pid == 0:
            killed_at(steps, state)
        _, status = os.waitpid(pid, 0)

        database, store, versions, serving, engine = opened(state)
        listed = versions.list_all()
        active = [one.version for one in listed if one.active]
        assert active == [engine.answers], (steps, active, engine.answers)
        assert engine.fault is None and serving.note is None, (steps, engine.fault, serving.note)
        assert store.get_active_version() == (serving.key)
        rows = {one.version for one in listed if not one.shipped}
        files = {path.name for path in (state / "versions").iterdir()}
        cards = {f"{name}.json" for name in rows}  # one may not have been written any more
        assert files - cards == {f"{name}.npz" for name in rows}, (steps, files)
        for name in rows:
            assert load_weights(state / "versions" / f"{name}.npz").version == name
        promoted = [one.version for one in store.list_jobs(9) if one.promoted]
        assert engine.answers in {*promoted, SHIPPED_FILE.version}
        assert not store.find_queued_job()
        database.close()
    if status == 0:
        break
    assert os.WIFSIGNALED(status), (steps, status)
print(steps)
"""


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_step_a_promotion_is_killed_at_the_next_start_finds_all_whole(
    stride: int,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(stride)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 30  # so many moments there are
