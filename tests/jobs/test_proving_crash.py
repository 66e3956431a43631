"""kill -9, and a disk that is full from then on, at every step of a proof in the background."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, which forks: MLX and its threads must not be in it.
CODE = """
import errno, os, shutil, signal, sys, tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from prometheus_client import CollectorRegistry
from app.errors import StateUnavailableError
from app.inference.tables import Tables
from app.jobs.database import Database
from app.jobs.metrics import JobMetrics
from app.jobs.proving import Prover
from app.jobs.serving import Serving
from app.jobs.verdicts import Verdicts
from tests.jobs.house import (
    SHIPPED, SHIPPED_FILE, SHIPPED_WEIGHTS, ScriptedChildren, ScriptedEngine,
)

assert "mlx.core" not in sys.modules


class Engine(ScriptedEngine):
    def look_up(self, weights, file):
        return SimpleNamespace(table=Tables(file.parent / "answers").find(weights, file)[0])


def opened(state):
    database, engine, children = Database(state / "menny.sqlite3"), Engine(), ScriptedChildren()
    serving = Serving(engine, state / "menny.npz", state / "versions")
    prover = Prover(
        Verdicts(database), serving, children, state / "staging", state / "answers",
        JobMetrics(CollectorRegistry()), is_automatic=True, wants_table=True,
    )
    with suppress(OSError):
        prover.tidy({SHIPPED})
    serving.reload(lambda: None)
    return database, engine, prover, children, serving


def act(state):
    with suppress(StateUnavailableError):
        opened(state)[2].work(lambda: None)


def struck_at(step, state, is_killed):
    # Counts what reaches the disk: folders, fsync, rename, unlink, and SQLite's transactions.
    count = 0

    def counted(function, refusal):
        def call(*arguments, **named):
            nonlocal count
            count += 1
            if count >= step:
                if is_killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise refusal
            return function(*arguments, **named)
        return call

    full = OSError(errno.ENOSPC, "No space left on device")
    for name in ("fsync", "replace", "mkdir", "rename"):
        setattr(os, name, counted(getattr(os, name), full))
    refusal = StateUnavailableError("database or disk is full")
    Database.transaction = counted(Database.transaction, refusal)
    act(state)
    os._exit(7 if count >= step else 0)


steps = 0
while True:
    steps += int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        shutil.copy(SHIPPED_WEIGHTS, state / "menny.npz")
        opened(state)[0].close()
        pid = os.fork()
        if pid == 0:
            try:
                struck_at(steps, state, sys.argv[1] == "killed")
            except BaseException:
                import traceback
                traceback.print_exc()
            os._exit(9)
        _, status = os.waitpid(pid, 0)
        assert status in {0, 7 << 8, signal.SIGKILL}, (steps, status)

        database, engine, prover, children, serving = opened(state)
        assert (engine.answers, engine.fault) == (SHIPPED, None), steps
        prover.work(lambda: None)
        assert prover.proof_of(SHIPPED, None).holds, steps
        assert prover.state_of(SHIPPED) is None
        assert serving.has_table(), steps
        left = {path.name for path in (state / "answers").iterdir()}
        assert left == {f"{SHIPPED_FILE.sha256}.npz"}, (steps, left)
        assert list((state / "staging").iterdir()) == [], steps
        asked = children.num_proofs
        prover.work(lambda: None)
        assert children.num_proofs == asked
        database.close()
    if status == 0:
        break
print(steps)
"""


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["killed", "full"])
def test_whatever_step_a_proof_is_struck_at_the_next_start_answers_and_finishes_it(
    how: str, stride: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, how, str(stride)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 5  # so many moments there are
