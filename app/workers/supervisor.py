"""Starts workers, starts dead ones again, hands signals on. It answers nothing itself.

The socket is bound once, and each worker inherits it: the kernel gives a connection to whoever
takes it first, on macOS too, where SO_REUSEPORT does not balance. Workers are spawned, for a
process that has used Metal can't be forked.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from app.errors import StateUnavailableError
from app.jobs.lock import StateLock, take_state_directory
from app.scoreboard import Row, Scoreboard
from app.settings import Settings
from app.workers.task import Task

logger = logging.getLogger(__name__)

TICK_S = 0.1
"""How often workers are looked at."""
STEADY_S = 10.0
"""A worker that ends sooner is started again after a pause, which doubles from `PAUSE_S` on."""
PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
_MEMORY = "/dev/shm"  # noqa: S108 - a file system that has no disk, where there is one
STOP_MARGIN_S = 8.0
"""On top of what open requests get: to announce the end, and to stop a training job."""


class Supervisor:
    """Keeps `settings.workers` processes answering on a listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        in_memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="menny-workers-", dir=in_memory))
        """Of the scoreboard, and of the files in which workers count."""
        self._board = Scoreboard.create(self._folder / "scoreboard", settings.workers)
        self._places = [_Place(row) for row in self._board.rows]
        self._lock: StateLock | None = None
        self._unavailable: str | None = None
        self._signals: list[int] = []
        self._stop_by: float | None = None
        self._has_answered = False
        self._has_failed = False

    def run(self) -> bool:
        """Until SIGTERM or SIGINT has ended all workers; whether all was well.

        Nothing is well if a worker ends before any has ever answered: then all end.
        """
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda signum, _: self._signals.append(signum))
        try:
            self._lock = take_state_directory(self._settings.state_dir)
        except StateUnavailableError as error:
            self._unavailable = str(error)
        try:
            while self._stop_by is None or any(place.process for place in self._places):
                self._hand_on_signals()
                for place in self._places:
                    self._look_after(place)
                time.sleep(TICK_S)
        finally:
            for place in self._places:
                if place.process is not None:
                    place.process.kill()
            if self._lock is not None:
                self._lock.release()
            shutil.rmtree(self._folder, ignore_errors=True)
        return not self._has_failed

    def _hand_on_signals(self) -> None:
        signals, self._signals = self._signals, []
        for signum in signals:
            if signum != signal.SIGHUP:
                self._stop(signum)
            for place in self._places:
                place.reloads |= signum == signal.SIGHUP

    def _stop(self, signum: int) -> None:
        """Have all workers drain; none is started any more."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._settings.shutdown_timeout_s + STOP_MARGIN_S
            self._listener.close()  # or who connects now would wait for nobody
        for place in self._places:
            if place.process is not None:
                place.process.send_signal(signum)

    def _look_after(self, place: "_Place") -> None:
        process, row, now = place.process, place.row, time.monotonic()
        if process is None:
            if self._stop_by is None and now >= place.due:
                self._start(place)
        elif process.poll() is not None:
            self._note_end(place, process)
        elif row.condemned == process.pid or (self._stop_by is not None and now > self._stop_by):
            logger.error("%s (process %d) does nothing any more: it is killed", row.name, row.pid)
            process.kill()
            process.wait()
            self._note_end(place, process)
        elif row.beat:
            self._has_answered = True
            if place.reloads:  # before that it has nothing to reload, and no handler
                place.reloads = False
                process.send_signal(signal.SIGHUP)

    def _start(self, place: "_Place") -> None:
        task = Task.of(
            self._settings,
            index=place.row.index,
            listener=self._listener.fileno(),
            scoreboard=self._board.path,
            unavailable=self._unavailable,
        )
        place.started = time.monotonic()
        # A process group of its own: Ctrl-C in the terminal is for the supervisor alone. Should
        # that die while the worker is stopped, the system wakes an orphaned group.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.workers"],
            stdin=subprocess.PIPE,
            pass_fds=[task.listener],
            process_group=0,
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self._folder)},
        )
        place.process, place.row.pid = process, process.pid
        assert process.stdin is not None  # noqa: S101 - Popen was asked for a pipe
        with suppress(BrokenPipeError):  # it has ended: that is seen at the next look
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            process.stdin.flush()

    def _note_end(self, place: "_Place", process: "subprocess.Popen[bytes]") -> None:
        pid, status = process.pid, process.returncode
        assert process.stdin is not None  # noqa: S101 - Popen was asked for a pipe
        with suppress(BrokenPipeError):
            process.stdin.close()
        mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        place.process = None
        place.row.clear()
        if self._stop_by is not None:
            return
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        if not self._has_answered:
            logger.error("%s (process %d) ended with %s at its start", place.row.name, pid, how)
            self._has_failed = True
            self._stop(signal.SIGTERM)
            return
        now = time.monotonic()
        place.num_short = place.num_short + 1 if now - place.started < STEADY_S else 0
        pause = min(MAX_PAUSE_S, PAUSE_S * 2 ** (place.num_short - 1)) if place.num_short else 0.0
        place.due = now + pause
        place.row.restarts += 1
        logger.error(
            "%s (process %d) ended with %s: it is started again in %.1f s",
            place.row.name,
            pid,
            how,
            pause,
        )


class _Place:
    """A worker's place, whichever process has it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = 0.0
        self.num_short = 0
        """How many ended soon after their start, one after the other."""
        self.reloads = False
        """Whether SIGHUP is to be handed on."""
