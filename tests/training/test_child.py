"""A child process that trains or measures for another program: what it says, and when it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.child.protocol import (
    Event,
    Measurement,
    MeasuringTask,
    PhaseEvent,
    SavedEvent,
    TrainingTask,
    parse_event,
)
from training.config import Recipe, TrainingConfig, recipe_config
from training.epoch import Epoch
from training.errors import TrainingError
from training.weights import load_weights

TINY = recipe_config(Recipe.DEFAULT, num_samples=200, num_epochs=2, batch_size=64, warm_up_steps=0)
ENDLESS = recipe_config(Recipe.DEFAULT, num_samples=2000, num_epochs=100_000, batch_size=200)
CHILD = [sys.executable, "-P", "-m", "training.child"]


def training_task(config: TrainingConfig, out: Path) -> str:
    task = TrainingTask(recipe=Recipe.DEFAULT, config=config, out=out, num_fresh_queries=100)
    return task.model_dump_json()


def events_of(task: str) -> list[Event]:
    """What a child tells of a task, to its end."""
    with subprocess.Popen([*CHILD, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        events = [parse_event(line) for line in child.stdout]
        assert child.wait(60) == 0
    return events


def test_a_child_trains_as_it_is_told_and_another_measures_what_came_of_it(tmp_path: Path) -> None:
    out = tmp_path / "menny.npz"
    events = events_of(training_task(TINY, out))
    weights = load_weights(out)
    assert [type(event) for event in events] == [PhaseEvent, Epoch, Epoch, PhaseEvent, SavedEvent]
    assert events[-1] == SavedEvent(sha256=weights.sha256)
    assert weights.card is not None
    assert weights.card.config == TINY

    first, second = events_of(
        MeasuringTask(weights=[out, out], num_queries=500, seed=1, not_of=TINY).model_dump_json()
    )
    assert isinstance(first, Measurement)
    assert first == second
    assert (first.sha256, first.metrics.num_queries) == (weights.sha256, 500)


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"epoch 1/3", b'{"epoch": 1}', b"\xff"])
def test_what_is_not_progress_is_refused(line: bytes) -> None:
    with pytest.raises(TrainingError, match="something that is not progress"):
        parse_event(line)


def test_an_argument_that_is_no_task_is_an_error_of_ours() -> None:
    with subprocess.Popen(
        [*CHILD, "{}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert child.stderr.read().startswith("error: the argument is no task")
        assert child.wait(60) == 1


def test_a_child_has_the_lowest_priority_and_ends_when_its_input_does(tmp_path: Path) -> None:
    task = training_task(ENDLESS, tmp_path / "menny.npz")
    environment = os.environ | {"PYTHONPATH": ""}  # without the priority that tests' children have
    with subprocess.Popen(
        [*CHILD, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(120) == 75
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_on_linux_a_child_dies_with_its_parent_even_if_the_pipe_stays_open(
    tmp_path: Path,
) -> None:
    read_end, write_end = os.pipe()
    starter = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)\n"
    )
    task = training_task(ENDLESS, tmp_path / "menny.npz")
    with subprocess.Popen(
        [sys.executable, "-c", starter, *CHILD, task], stdin=read_end, stdout=subprocess.PIPE
    ) as parent:
        os.close(read_end)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(30)
        try:
            _wait_until_gone(child)
        finally:
            os.close(write_end)


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
        if not ps.stdout.strip() or ps.stdout.startswith("Z"):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")
