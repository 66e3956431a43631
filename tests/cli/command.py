"""`menny`, called in this process or as one of its own."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from app.cli.commands import run
from tests.service import clean_environment

MENNY = [sys.executable, "-m", "app.cli"]


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


def menny(*arguments: str | Path, text: str = "", **environment: str | Path) -> Done:
    """Call a command in this process, for what needs no process of its own."""
    variables = {"COLUMNS": "200"} | {name: str(value) for name, value in environment.items()}
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["menny", *map(str, arguments)]),
        patch.object(sys, "stdin", io.StringIO(text)),
        patch.dict(os.environ, variables),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            run()
        except SystemExit as end:
            if isinstance(end.code, str):  # what the interpreter does with a sentence
                print(end.code, file=stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(status, stdout.getvalue(), stderr.getvalue())


def menny_process(*arguments: str | Path, text: str = "", **environment: str | Path) -> Done:
    """The same as a person or a script has it."""
    done = subprocess.run(
        [*MENNY, *map(str, arguments)],
        input=text,
        env=clean_environment() | {"COLUMNS": "200"} | {k: str(v) for k, v in environment.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
