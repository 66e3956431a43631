"""The command line, as a person or a script has it."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import clean_environment
from training.weights import SHIPPED_WEIGHTS, load_weights

MENNY = [sys.executable, "-m", "app.cli"]
TINY_RUN = ["--num-samples", "40", "--batch-size", "8", "--warm-up-steps", "2"]


def menny(*arguments: str | Path, text: str = "", **environment: str):
    return subprocess.run(
        [*MENNY, *map(str, arguments)],
        input=text,
        env=clean_environment() | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", ["serve", "train", "evaluate", "dataset", "chat"])
def test_help_has_an_example(command: str) -> None:
    result = menny(command, "--help")
    assert result.returncode == 0
    assert re.search(rf"Example: menny {command}", result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train", "--seed", "x"],
        ["train", "--batch-size", "1000000"],
        ["train", "--recipe", "none"],
        ["serve", "--port", "70000"],
        ["dataset"],
    ],
)
def test_wrong_usage_is_exit_status_2_and_no_traceback(arguments: list[str]) -> None:
    result = menny(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr


def test_an_environment_variable_that_makes_no_sense_is_named() -> None:
    result = menny("serve", MENNY_PORT="many")
    assert result.returncode == 2
    assert "MENNY_PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_shown() -> None:
    assert re.fullmatch(r"menny \d+\.\d+\.\d+\n", menny("--version").stdout)


def test_dataset_train_and_evaluate_work_together(tmp_path: Path) -> None:
    pairs, weights = tmp_path / "pairs.jsonl", tmp_path / "menny.npz"
    made = menny("dataset", "--num-samples", "100", "--out", pairs)
    assert "wrote 100 rows" in made.stdout
    trained = menny("train", "--data", pairs, "--out", weights, "--num-epochs", "2", *TINY_RUN[2:])
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"epoch 2/2  loss \d\.\d{4}  rule_accuracy \d\.\d{4}", trained.stdout)
    card = load_weights(weights).card
    assert card is not None
    assert card.config.num_samples == 100
    evaluated = menny("evaluate", "--weights", weights, "--num-queries", "300")
    assert evaluated.returncode == 0, evaluated.stderr
    assert card.sha256[:12] in evaluated.stdout
    assert re.search(r"rule_accuracy\s+\d+\.\d+%", evaluated.stdout)


def test_a_bad_row_stops_training_before_it_begins(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,label\nMeM,uIu\nMeM,xxx\n")
    result = menny("train", "--data", pairs, "--out", tmp_path / "menny.npz")
    assert result.returncode == 1
    assert "line 3" in result.stderr
    assert list(tmp_path.iterdir()) == [pairs]


def test_evaluate_says_what_is_wrong_with_weights(tmp_path: Path) -> None:
    result = menny("evaluate", "--weights", tmp_path / "none.npz")
    assert (result.returncode, "no such file" in result.stderr) == (1, True)


@pytest.mark.parametrize("module", ["app.cli", "training"])
def test_ctrl_c_stops_training_cleanly_and_says_what_was_kept(tmp_path: Path, module: str) -> None:
    out = tmp_path / "menny.npz"
    out.write_bytes(b"what was there before")
    arguments = ["train"] if module == "app.cli" else []
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments, *TINY_RUN, "--num-epochs=99999", f"--out={out}"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("epoch 1/")
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "nothing was written" in errors
    assert f"{out} is as it was" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"what was there before"


def test_on_a_terminal_training_shows_a_progress_bar(tmp_path: Path) -> None:
    output = on_a_terminal(
        ["train", *TINY_RUN, "--num-epochs", "3", "--out", str(tmp_path / "menny.npz")]
    )
    assert "epoch 3/3" in output
    assert "━" in output
    assert re.search(r"loss \d\.\d{4}  rule_accuracy \d\.\d{4}", output)


def on_a_terminal(arguments: list[str], *dialogue: tuple[str, bytes]) -> str:
    """Run `menny ARGUMENTS` on a pseudo-terminal and return what it showed.

    Each step of the dialogue waits until a text has been shown anew, then types something. What
    was typed last is typed again when nothing follows it: CPython can miss a Ctrl-C that comes
    between its prompt and its read.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        environment = clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "120"}
        os.execvpe(sys.executable, [*MENNY, *arguments], environment)  # noqa: S606
    shown, answered, typed = "", 0, b""
    steps = list(dialogue)
    try:
        for _ in range(1000):
            if not select.select([terminal], [], [], 5)[0]:
                os.write(terminal, typed)
                continue
            shown += os.read(terminal, 65536).decode(errors="replace")
            if steps and steps[0][0] in shown[answered:]:
                answered = len(shown)
                typed = steps.pop(0)[1]
                os.write(terminal, typed)
    except OSError:
        pass  # what Linux says when the other end has closed
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not steps, repr(shown)
    return shown


def test_chat_is_the_books_session() -> None:
    result = menny("chat", text="MeM\nM3M\nabcdef\n\nz\nq\nnever read\n")
    assert result.returncode == 0
    prompt = r"Enter your prompt \(max 5 chars, q to quit\): "
    sorry = r"Sorry, .*MeM.*\n"
    assert re.fullmatch(
        rf"{prompt}Menny: [aeiou][AEIOU][aeiou]\n({prompt}{sorry}){{3}}"
        rf"{prompt}Menny: [AEIOU]\n{prompt}",
        result.stdout,
    ), result.stdout
    assert result.stderr == ""


def test_ctrl_d_leaves_the_chat() -> None:
    result = menny("chat", text="MeM\n")
    assert result.returncode == 0
    assert "Traceback" not in result.stderr


def test_ctrl_c_leaves_the_chat() -> None:
    output = on_a_terminal(["chat"], ("to quit): ", b"MeM\n"), ("to quit): ", b"\x03"))
    assert "Menny: " in output
    assert "Traceback" not in output


def test_chat_without_weights_offers_to_train(tmp_path: Path) -> None:
    path = tmp_path / "menny.npz"
    refused = menny("chat", "--weights", path, text="n\n")
    assert refused.returncode == 1
    assert "Train Menny now?" in refused.stdout
    assert not path.exists()


def test_chat_says_what_is_wrong_with_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "menny.npz"
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:1000])
    result = menny("chat", "--weights", path)
    assert (result.returncode, "not an .npz file" in result.stderr) == (1, True)
