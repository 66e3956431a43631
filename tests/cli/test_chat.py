"""`menny chat`: the book's session."""

import re
from pathlib import Path

import pytest

from tests.cli.command import menny, menny_process
from tests.cli.terminal import on_a_terminal
from training.weights import SHIPPED_WEIGHTS


@pytest.mark.default_rule
def test_chat_is_the_books_session() -> None:
    result = menny_process("chat", text="MeM\nM3M\nabcdef\n\nz\nq\nnever read\n")
    assert result.status == 0
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
    assert result.status == 0
    assert "Traceback" not in result.stderr


@pytest.mark.default_rule
def test_the_arrow_keys_edit_the_line_and_bring_earlier_ones_back() -> None:
    output = on_a_terminal(
        ["chat"],
        ("to quit): ", b"eM\x1b[D\x1b[DM\r"),  # eM, twice left, M: that makes MeM
        ("to quit): ", b"\x1b[A\r"),  # up: the same once more
        ("to quit): ", b"q\r"),
    )
    answers = re.findall(r"Menny: (\w+)", output)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert re.fullmatch(r"[aeiou][AEIOU][aeiou]", answers[0])


@pytest.mark.default_rule
def test_ctrl_c_leaves_the_chat() -> None:
    output = on_a_terminal(["chat"], ("to quit): ", b"MeM\n"), ("to quit): ", b"\x03"))
    assert "Menny: " in output
    assert "Traceback" not in output


def test_chat_without_weights_offers_to_train(tmp_path: Path) -> None:
    path = tmp_path / "menny.npz"
    refused = menny("chat", "--weights", path, text="n\n")
    assert refused.status == 1
    assert "Train Menny now?" in refused.stdout
    assert not path.exists()


def test_chat_says_what_is_wrong_with_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "menny.npz"
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:1000])
    result = menny("chat", "--weights", path)
    assert (result.status, "not an .npz file" in result.stderr) == (1, True)
