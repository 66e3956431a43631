"""`menny` on a pseudo-terminal."""

import os
import pty
import select
import signal
import sys

from tests.cli.command import MENNY
from tests.service import clean_environment


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
