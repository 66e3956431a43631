"""What holds for every command: help, wrong usage, start and end."""

import re
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from app.cli.commands import COMMANDS, cli, load_command
from tests.cli.command import menny, menny_process
from tests.service import clean_environment

HEAVY = {"mlx", "numpy", "sqlalchemy", "fastapi", "uvicorn", "httpx", "pydantic"}


def test_help_lists_the_commands_without_importing_what_they_need() -> None:
    code = (
        "import sys; sys.argv = ['menny', '--help']\n"
        "from app.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=clean_environment() | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "[]\n"
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)
    assert "..." not in done.stdout.partition("Commands:")[2]  # no line of help is cut off


@pytest.mark.parametrize("command", COMMANDS)
def test_the_line_that_lists_a_command_is_the_first_line_of_its_own_help(command: str) -> None:
    where, line = COMMANDS[command]
    assert load_command(where).help.partition("\n\n")[0] == line


@pytest.mark.parametrize("command", ["serve", "train", "evaluate", "verify", "dataset", "chat"])
def test_the_help_of_a_command_has_an_example(command: str) -> None:
    done = menny(command, "--help")
    assert done.status == 0
    assert f"Example: menny {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train", "--seed", "x"],
        ["train", "--batch-size", "1000000"],
        ["train", "--recipe", "none"],
        ["serve", "--port", "70000"],
        ["dataset"],
        ["jobs", "cancel", "x"],
    ],
)
def test_wrong_usage_is_exit_status_2_and_a_sentence(arguments: list[str]) -> None:
    done = menny(*arguments)
    assert done.status == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_shown() -> None:
    done = menny_process("--version")
    assert re.fullmatch(r"menny \d+\.\d+\.\d+\n", done.stdout)


def test_completion_knows_the_commands_and_their_options() -> None:
    def complete(words: str) -> str:
        environment = {
            "_MENNY_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        return CliRunner().invoke(cli, prog_name="menny", env=environment).output

    assert "serve" in complete("menny se")
    assert "--num-samples" in complete("menny dataset --num")


@pytest.mark.parametrize(
    ("module", "status"), [("typer", -signal.SIGINT), ("app.main", 128 + signal.SIGINT)]
)
def test_ctrl_c_while_modules_are_imported_prints_no_traceback(module: str, status: int) -> None:
    """The finder below stands in for a slow disk: it says that it is there, and takes its time."""
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv = ['menny', 'serve', '--port', '0']\n"
        "from app.cli import main\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == status
    assert "Traceback" not in errors


def test_a_shell_that_ignores_ctrl_c_is_obeyed() -> None:
    ignoring = f"trap '' INT; exec {sys.executable} -m app.cli --version"
    done = subprocess.run(["sh", "-c", ignoring], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout[:6]) == (0, "menny ")
