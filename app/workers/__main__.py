"""A worker: `python -m app.workers`, started by the supervisor and by nobody else.

The first line of its standard input says what it is to do (`Task`). The input ends when the
supervisor does, however that ends: then the worker drains, and is gone within `END_S`.
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from io import FileIO
from pathlib import Path

from app.process import prepare, run
from app.scoreboard import Scoreboard, Worker
from app.settings import Settings
from app.workers.task import Task

END_S = 4.5


def main() -> int:
    """Answer until a signal or the end of the supervisor; returns the exit status."""
    supervisor = FileIO(sys.stdin.fileno())
    task = Task.model_validate_json(supervisor.readline())
    settings = Settings(**task.settings)
    prepare(settings)
    watch = threading.Thread(
        target=_end_with,
        args=[supervisor, task.scoreboard.parent],
        name="menny-supervised",
        daemon=True,
    )
    watch.start()
    scoreboard = Scoreboard(task.scoreboard)
    worker = Worker(scoreboard, scoreboard.rows[task.index], task.unavailable)
    return 0 if run(settings, socket.socket(fileno=task.listener), worker) else 1


def _end_with(supervisor: FileIO, folder: Path) -> None:
    supervisor.read(1)
    shutil.rmtree(folder, ignore_errors=True)  # a supervisor that was killed can't
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
