"""`menny jobs`, `models`, `token`, `train --remote`: the command line as a client of a service."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.admin_token import TOKEN_FILE
from tests.cli.command import MENNY, Done, menny
from tests.retraining import TINY
from tests.service import Service, clean_environment, running_service
from training.weights import SHIPPED_WEIGHTS, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS).version
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
LONG_FLAGS = ["--num-samples=2000", "--num-epochs=1000"]


class Client:
    """The command line of somebody with the token of a running service."""

    def __init__(self, service: Service, state: Path) -> None:
        self.service = service
        self.url = service.url
        self.port = service.url.rpartition(":")[2]
        self.state = state

    def menny(self, *arguments: str, **environment: str) -> Done:
        return menny(*arguments, **{"MENNY_STATE_DIR": str(self.state)} | environment)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = tmp_path_factory.mktemp("state")
    with running_service(MENNY_STATE_DIR=state, MENNY_GATE_QUERIES="100") as service:
        yield Client(service, state)


@pytest.mark.default_rule
def test_a_version_is_trained_listed_activated_by_its_first_digits_and_deleted(
    remote: Client,
) -> None:
    url = ["--url", remote.url]
    none = "there are no jobs yet: `menny train --remote` starts one\n"
    assert remote.menny("jobs", *url).stdout == none
    done = remote.menny("train", "--remote", remote.url, *TINY_FLAGS, "--promote", "always")
    assert done.status == 0, done.stderr
    assert "epoch 1/2  loss" in done.stdout
    assert "epoch 2/2  loss" in done.stdout
    version = str(remote.service.transform("MeM")["model_version"])
    assert f"succeeded: version {version} is active" in done.stdout
    (job,) = re.findall(r"^job (\d+) is started", done.stdout, re.MULTILINE)
    assert f"`menny jobs cancel {job} --url {remote.url}` would end it" in done.stdout

    assert f"version {version} is active" in remote.menny("jobs", *url).stdout
    watched_again = remote.menny("jobs", "watch", job, *url)
    assert watched_again.status == 0
    assert "epoch 2/2  loss" in watched_again.stdout
    assert f"succeeded: version {version} is active" in watched_again.stdout
    models = remote.menny("models", *url).stdout
    assert version in models
    assert "shipped" in models

    back = remote.menny("models", "activate", "shipped", *url)
    assert back.stdout == f"version {SHIPPED} is active\n"
    assert remote.service.transform("MeM")["model_version"] == SHIPPED
    forward = remote.menny("models", "activate", version[:5], *url)
    assert forward.stdout == f"version {version} is active\n"
    remote.menny("models", *url, "activate", SHIPPED[:5])
    assert remote.service.transform("MeM")["model_version"] == SHIPPED
    deleted = remote.menny("models", *url, "delete", version[:5])
    assert deleted.stdout == f"version {version} is deleted\n"


def test_without_url_the_service_that_the_settings_name_is_asked(remote: Client) -> None:
    assert remote.menny("models", MENNY_PORT=remote.port).status == 0
    elsewhere = remote.menny("jobs", "cancel", "99", MENNY_PORT=remote.port)
    assert "there is no job 99: `menny jobs` lists them" in elsewhere.stderr
    refused = remote.menny("train", "--remote", "--num-epochs=5000", MENNY_PORT=remote.port)
    assert "less than or equal to 1000" in refused.stderr
    assert (
        "http://127.0.0.1:9 can't be reached"
        in menny("train", "--remote", MENNY_PORT="9", MENNY_STATE_DIR=remote.state).stderr
    )


def test_ctrl_c_leaves_a_job_alone_and_says_how_to_go_on(remote: Client) -> None:
    with subprocess.Popen(
        [*MENNY, "train", "--remote", remote.url, *LONG_FLAGS],
        env=clean_environment() | {"MENNY_STATE_DIR": str(remote.state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            job = process.stdout.readline().split()[1]
            assert process.stdout.readline().startswith("epoch 1/")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"job {job} goes on: `menny jobs watch {job} --url {remote.url}`" in errors
    assert "Traceback" not in errors

    other = remote.menny("train", "--remote", remote.url, *TINY_FLAGS)
    assert other.status == 1
    assert f"job {job} is running, and there is one at a time" in other.stderr
    assert f"`menny jobs cancel {job} --url {remote.url}` ends it" in other.stderr
    assert "DELETE" not in other.stderr

    ended = remote.menny("jobs", "cancel", job, "--url", remote.url)
    assert ended.stdout.startswith(f"job {job}: cancelled")
    watched = remote.menny("jobs", "watch", job, "--url", remote.url)
    assert (watched.status, f"job {job}: cancelled" in watched.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "--remote", "URL", "--num-epochs=5000"], 1, "less than or equal to 1000"),
        (["train", "--remote", "URL", "--shuffle"], 2, "--shuffle does not go with --remote"),
        (["train", "--remote", "http://192.0.2.1:8000"], 1, "set MENNY_ADMIN_TOKEN"),
        (["train", "--remote", "localhost:8000"], 1, "is not an address"),
        (["models", "delete", "shipped", "--url", "URL"], 1, "can't be deleted"),
        (["models", "activate", "0" * 12, "--url", "URL"], 1, "there is no version 0000"),
        (["models", "activate", "XYZ", "--url", "URL"], 1, "`menny models --url URL` lists them"),
        (["models", "--url", "URL", "delete", "XYZ"], 1, "`menny models --url URL` lists them"),
        (["jobs", "cancel", "99", "--url", "URL"], 1, "`menny jobs --url URL` lists them"),
        (["jobs", "--url", "URL", "cancel", "99"], 1, "there is no job 99"),
        (["jobs", "watch", "99", "--url", "URL"], 1, "there is no job 99"),
        (["jobs", "--url", "http://127.0.0.1:9"], 1, "can't be reached"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_command_line(
    remote: Client, arguments: list[str], status: int, message: str
) -> None:
    done = remote.menny(*[remote.url if word == "URL" else word for word in arguments])
    assert done.status == status
    assert message.replace("URL", remote.url) in done.stderr
    assert not re.search(r"(GET|POST|DELETE) /", done.stderr)


def test_a_wrong_token_is_named_by_where_it_came_from(remote: Client, tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text("a token of another service")
    by_file = menny("jobs", "--url", remote.url, MENNY_STATE_DIR=tmp_path)
    assert by_file.status == 1
    assert f"does not know the admin token of {tmp_path / TOKEN_FILE}" in by_file.stderr
    by_variable = menny("jobs", "--url", remote.url, MENNY_ADMIN_TOKEN="x" * 16)
    assert "does not know the admin token of MENNY_ADMIN_TOKEN" in by_variable.stderr


def test_token_prints_the_service_s_own_and_names_the_file(remote: Client) -> None:
    done = remote.menny("token")
    assert done.stdout == (remote.state / TOKEN_FILE).read_text()
    assert str(remote.state / TOKEN_FILE) in done.stderr
    assert menny("token", MENNY_ADMIN_TOKEN="y" * 16).stdout == "y" * 16 + "\n"


def test_only_a_service_makes_a_token(tmp_path: Path) -> None:
    done = menny("token", MENNY_STATE_DIR=tmp_path / "state")
    assert (done.status, done.stdout) == (1, "")
    assert f"there is no admin token in {tmp_path / 'state' / TOKEN_FILE}" in done.stderr
    assert "`menny serve` makes one at its first start" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["short", "ü" * 20, ""])
def test_a_token_that_no_header_could_carry_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text(content)
    done = menny("jobs", MENNY_STATE_DIR=tmp_path)
    assert done.status == 1
    assert f"{tmp_path / TOKEN_FILE} is not what `menny serve` wrote: a token has" in done.stderr


def test_a_misspelt_variable_is_named_with_the_nearest_setting(tmp_path: Path) -> None:
    done = menny("token", MENNY_STATE_DIR=tmp_path, MENNY_PROT="8001", MENNY_XYZ="1")
    assert "MENNY_PROT is not a setting, and does nothing: is MENNY_PORT meant?" in done.stderr
    assert "MENNY_XYZ is not a setting, and does nothing\n" in done.stderr


def test_a_name_that_no_version_can_have_is_refused_in_our_own_words(remote: Client) -> None:
    token = (remote.state / TOKEN_FILE).read_text().strip()
    answer = remote.service.client.get("/models/0123", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 422
    assert "a version is named by its 12 digits (0-9, a-f), or as `shipped`" in answer.text
    assert "pattern" not in answer.text
