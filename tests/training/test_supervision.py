"""A training process for another program: what it says, and when it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from training.child.events import EpochEvent, PhaseEvent, SavedEvent, parse_event
from training.child.measure import Measurement
from training.config import TrainingConfig
from training.errors import TrainingError
from training.trainer import codes_trained_on, train
from training.weights import load_weights

TINY = ["--num-samples=200", "--num-epochs=2", "--batch-size=64", "--warm-up-steps=0"]
ENDLESS = ["--num-samples=2000", "--num-epochs=100000", "--batch-size=200"]


def test_progress_for_a_program_is_one_json_object_a_line(tmp_path: Path) -> None:
    out = tmp_path / "menny.npz"
    done = subprocess.run(
        [sys.executable, "-m", "training", "--progress=json", "--out", str(out), *TINY],
        capture_output=True,
        check=True,
    )
    events = [parse_event(line) for line in done.stdout.splitlines()]

    assert [type(event) for event in events] == [
        PhaseEvent,
        EpochEvent,
        EpochEvent,
        PhaseEvent,
        SavedEvent,
    ]
    assert isinstance(events[-1], SavedEvent)
    assert events[-1].sha256 == load_weights(out).sha256


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"epoch 1/3", b'{"event": "epoch"}', b"\xff"])
def test_what_is_not_progress_is_refused(line: bytes) -> None:
    with pytest.raises(TrainingError, match="something that is not progress"):
        parse_event(line)


def test_a_supervised_process_ends_when_its_input_does(tmp_path: Path) -> None:
    with _endless(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(5) == 75
    assert not (tmp_path / "menny.npz").exists()


def test_a_supervised_process_has_the_lowest_priority(tmp_path: Path) -> None:
    with _endless(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_on_linux_a_supervised_process_dies_with_its_parent_even_if_the_pipe_stays_open(
    tmp_path: Path,
) -> None:
    read_end, write_end = os.pipe()
    arguments = ["--progress=json", "--supervised", "--out", str(tmp_path / "m.npz"), *ENDLESS]
    starter = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'training', *sys.argv[1:]],"
        " stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, *arguments], stdin=read_end, stdout=subprocess.PIPE
    ) as parent:
        os.close(read_end)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(5)
        try:
            _wait_until_gone(child)
        finally:
            os.close(write_end)


def test_the_queries_of_a_run_can_be_drawn_again_from_its_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import training.trainer

    seen: list[np.ndarray] = []
    original = training.trainer.fresh_dataset

    def spy(num_queries: int, rng: np.random.Generator, trained_on: np.ndarray) -> object:
        seen.append(trained_on)
        return original(num_queries, rng, trained_on)

    monkeypatch.setattr(training.trainer, "fresh_dataset", spy)
    for resample in (True, False):
        config = TrainingConfig(
            num_samples=200, num_epochs=3, batch_size=64, warm_up_steps=0, resample=resample
        )
        train(config, num_fresh_queries=100)
        assert np.array_equal(np.unique(seen.pop()), codes_trained_on(config))


def test_files_are_measured_on_the_same_queries(tmp_path: Path) -> None:
    out = tmp_path / "menny.npz"
    subprocess.run(
        [sys.executable, "-m", "training", "--progress=json", "--out", str(out), *TINY],
        capture_output=True,
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-m", "training.child.measure", str(out), str(out), "--num-queries=500"],
        capture_output=True,
        check=True,
    )
    first, second = map(Measurement.model_validate_json, done.stdout.splitlines())
    assert first == second
    assert first.sha256 == load_weights(out).sha256
    assert first.metrics.num_queries == 500


def _endless(folder: Path) -> "subprocess.Popen[bytes]":
    out = str(folder / "menny.npz")
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "training",
            "--progress=json",
            "--supervised",
            "--out",
            out,
            *ENDLESS,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")
