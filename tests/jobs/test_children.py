"""Promise 4: whatever a child process does, its job fails with a reason and nothing else happens.

The children are real processes; what goes wrong in them is put there by a `sitecustomize` module,
which Python runs first, so that the service itself has no knob for it.
"""

import resource
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from app.jobs.runner import ChildError, Children
from tests.jobs.house import SHIPPED, Home, ScriptedChildren, house
from tests.retraining import children_of
from tests.service import python_path
from training.config import TrainingConfig
from training.weights import SHIPPED_WEIGHTS

IN_TRAINING = """'"task":"train"' in sys.orig_argv[-1]"""
IN_MEASURING = """'"task":"measure"' in sys.orig_argv[-1]"""
FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the child processes `where` do `what` first."""

    def arrange(where: str, what: str) -> None:
        folder = tmp_path / "python"
        folder.mkdir()
        code = f"import sys\nif {where}:\n{textwrap.indent(what, '    ')}\n"
        monkeypatch.setenv("PYTHONPATH", python_path(folder, code))

    return arrange


class HalfScripted(ScriptedChildren):
    """Trains by script and measures in real processes."""

    measure = Children().measure


@pytest.mark.parametrize(
    ("where", "what", "reason"),
    [
        (IN_TRAINING, "print('{garbage'); " + FOREVER, "not progress: '{garbage'"),
        (IN_TRAINING, "sys.stdout.buffer.write(bytes(10**6)); " + FOREVER, "not progress"),
        (IN_TRAINING, "import os; os._exit(0)", "there is no such file"),
        (IN_TRAINING, "sys.exit('error: no luck')", "no luck"),
        (IN_TRAINING, "import os; os._exit(3)", "ended with exit status 3: no word of why"),
        (IN_TRAINING, "import os; os.abort()", "the training process crashed (SIGABRT)"),
        (
            IN_TRAINING,
            "import training.optimizer as o; o._learning_rate = lambda config: 1e30",
            "the learning rate (0.005) is too high",
        ),
        (
            IN_TRAINING,
            "import training.child.protocol as p\n"
            "p.SavedEvent = lambda sha256: p.PhaseEvent(phase='saving')",
            "wrote other weights than it said",
        ),
        (IN_MEASURING, "import os; os.write(1, b'{}'); os._exit(0)", "something that is not"),
        (IN_MEASURING, "import os; os._exit(0)", "the weights changed while they were measured"),
        (IN_MEASURING, "import os; os.kill(os.getpid(), 9)", "the measuring process was killed"),
    ],
    ids=lambda value: None if "sys.orig_argv" in value else value[:40],
)
def test_whatever_a_child_does_the_job_fails_with_a_reason_and_the_model_keeps_serving(
    tmp_path: Path, sabotage, where: str, what: str, reason: str
) -> None:
    sabotage(where, what)
    children = Children() if where == IN_TRAINING else HalfScripted()
    with house(tmp_path / "state", children=children) as home:
        job = home.run_job(promote="always", num_epochs=2)
        assert (job.state, job.promoted, job.version) == ("failed", False, None)
        assert reason in job.reason
        assert str(tmp_path) not in job.reason
        _assert_as_before(home)


@pytest.mark.parametrize(
    ("phase", "where", "what"),
    [
        ("starting", IN_TRAINING, FOREVER),
        ("starting", IN_TRAINING, "import os; os.close(1); os.close(2); " + FOREVER),
        ("checking", IN_MEASURING, FOREVER),
    ],
)
def test_a_child_that_does_nothing_any_more_is_killed_when_its_job_is_cancelled(
    tmp_path: Path, sabotage, phase: str, where: str, what: str
) -> None:
    sabotage(where, what)
    children = Children() if where == IN_TRAINING else HalfScripted()
    with house(tmp_path / "state", children=children) as home:
        job_id = home.start_job(promote="always")
        home.wait_for(job_id, lambda job: job.phase == phase and bool(_children(home)))
        home.store.cancel_job(job_id)
        job = home.wait_for(job_id, lambda job: job.state.has_ended)
        assert (job.state, job.reason) == ("cancelled", "it was cancelled")
        _assert_as_before(home)


def test_a_disk_that_is_full_when_the_version_is_kept_leaves_the_active_model_untouched(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill(phase: str, check: object) -> None:
            if phase == "checking":
                resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))  # the weights have 2 MB

        home.children.in_phase = fill
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            job = home.run_job(promote="always")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        assert (job.state, job.promoted) == ("failed", False)
        assert "can't write" in job.reason
        _assert_as_before(home)


def test_a_child_computes_where_the_service_is_told_to(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        job = home.run_job()
    children = Children("cpu")
    for child in (
        children.measure([SHIPPED_WEIGHTS], 1, job.config),
        children.train(job, tmp_path / "out.npz"),
    ):
        assert child.task.device == "cpu"


def test_a_child_that_cannot_be_started_is_an_error_with_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    task = Children().measure([SHIPPED_WEIGHTS], 1, TrainingConfig())
    with pytest.raises(ChildError, match="can't be started: No such file"), task:
        pass


def test_what_a_child_writes_is_read_line_by_line_while_its_end_is_awaited() -> None:
    looks = []
    with Children().measure([SHIPPED_WEIGHTS], 50, TrainingConfig()) as child:
        events = list(child.events(lambda: looks.append(time.monotonic())))
    assert len(events) == 1
    assert looks


def _children(home: Home) -> list[int]:
    return children_of(home.state)


def _assert_as_before(home: Home) -> None:
    assert home.engine.answers == SHIPPED
    assert home.listed() == [SHIPPED]
    assert not list((home.state / "versions").iterdir())
    assert not _children(home)
