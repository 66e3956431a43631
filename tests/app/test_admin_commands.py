"""The command line as a client of a running service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.retraining import TINY
from tests.service import Service, clean_environment, running_service
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def remote(state: Path) -> Iterator[Service]:
    with running_service(MENNY_STATE_DIR=state, MENNY_GATE_QUERIES="100") as service:
        yield service


def menny(*arguments: str, state: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=clean_environment() | {"MENNY_STATE_DIR": str(state), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_train_remote_shows_the_progress_and_the_end(remote: Service, state: Path) -> None:
    done = menny("train", "--remote", remote.url, *TINY_FLAGS, "--promote", "always", state=state)

    assert done.returncode == 0, done.stderr
    assert "epoch 1/2  loss" in done.stdout
    assert "epoch 2/2  loss" in done.stdout
    version = remote.transform("MeM")["model_version"]
    assert f"succeeded: version {version} is active" in done.stdout

    jobs = menny("jobs", "--url", remote.url, state=state)
    assert f"version {version} is active" in jobs.stdout
    models = menny("models", "--url", remote.url, state=state)
    assert str(version) in models.stdout
    assert "shipped" in models.stdout

    back = menny("models", "activate", "shipped", "--url", remote.url, state=state)
    assert back.stdout == f"version {SHIPPED} is active\n"
    assert remote.transform("MeM")["model_version"] == SHIPPED
    deleted = menny("models", "delete", str(version), "--url", remote.url, state=state)
    assert deleted.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "--remote", "URL", "--num-epochs=5000"], 1, "less than or equal to 1000"),
        (["train", "--remote", "URL", "--shuffle"], 2, "--shuffle does not go with --remote"),
        (["train", "--promote", "never"], 2, "--promote goes with --remote"),
        (["train", "--remote", "http://192.0.2.1:8000"], 1, "set MENNY_ADMIN_TOKEN"),
        (["train", "--remote", "localhost:8000"], 1, "is not an address"),
        (["models", "delete", "shipped", "--url", "URL"], 1, "can't be deleted"),
        (["models", "activate", "0" * 12, "--url", "URL"], 1, "there is no version 0000"),
        (["jobs", "cancel", "99", "--url", "URL"], 1, "there is no job 99"),
        (["jobs", "--url", "http://127.0.0.1:9"], 1, "can't be reached"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    remote: Service, state: Path, arguments: list[str], status: int, message: str
) -> None:
    arguments = [remote.url if argument == "URL" else argument for argument in arguments]
    done = menny(*arguments, state=state)

    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
