"""What the workers of a service and their supervisor tell each other many times a second.

A page of memory that all of them map: numbers, no words, which are never synced to a disk and may
be lost. What must not be lost is in the database.
"""

import mmap
import time
from dataclasses import dataclass
from pathlib import Path

BEAT_S = 0.2
"""How often a worker says that its event loop turns."""
SILENT_S = 2.0
"""After that time without a beat a worker counts as silent."""

_NUM_WORDS = 8  # of 8 bytes each: written at once, and no two workers share a cache line


class _Word:
    """One number of a row, in the page itself."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __get__(self, row: "Row", _: type["Row"]) -> int:
        return row.words[self._index]

    def __set__(self, row: "Row", value: int) -> None:
        row.words[self._index] = value


class Row:
    """One worker's numbers; `index` counts from 0."""

    pid = _Word(0)
    """Its process; 0 if there is none. The supervisor writes it, and `restarts`."""
    restarts = _Word(1)
    """How often it was started again."""
    beat = _Word(2)
    """When its event loop turned last, in nanoseconds of `time.monotonic_ns`; 0 at its start.

    That clock is one for all processes, and stands still while a laptop sleeps.
    """
    can_answer = _Word(3)
    """1 if it can, with a table or a model."""
    has_joined = _Word(4)
    """1 from when it follows switches on: none is made without it."""
    ready = _Word(5)
    """The proposal that it has prepared; negative if it can't."""
    serves = _Word(6)
    """The latest proposal that it answers with."""
    condemned = _Word(7)
    """The process that the supervisor is to kill; another worker writes it."""

    def __init__(self, index: int, words: memoryview) -> None:
        self.index = index
        self.words = words

    @property
    def name(self) -> str:
        """As people call it, who count from 1."""
        return f"worker {self.index + 1}"

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return (time.monotonic_ns() - self.beat) / 1e9

    @property
    def is_live(self) -> bool:
        """Whether it answers, and its event loop turns."""
        return bool(self.pid and self.beat) and self.silent_s < SILENT_S

    @property
    def is_silent(self) -> bool:
        """Whether its event loop turned, and does not any more."""
        return bool(self.pid and self.beat) and self.silent_s >= SILENT_S

    def clear(self) -> None:
        """Forget a process that has ended."""
        self.pid = self.beat = self.can_answer = self.condemned = 0
        self.has_joined = self.ready = self.serves = 0


class Scoreboard:
    """A row for each worker, in a file that is mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            words = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self.rows = [
            Row(index, words[_NUM_WORDS * index :][:_NUM_WORDS])
            for index in range(len(words) // _NUM_WORDS)
        ]

    @classmethod
    def create(cls, path: Path, num_workers: int) -> "Scoreboard":
        """A new one, all zeros."""
        path.write_bytes(bytes(8 * _NUM_WORDS * num_workers))
        return cls(path)

    @property
    def num_live(self) -> int:
        """How many workers are there and not silent."""
        return sum(row.is_live for row in self.rows)

    @property
    def can_answer(self) -> bool:
        """Whether any of them can."""
        return any(row.is_live and row.can_answer for row in self.rows)


@dataclass(frozen=True)
class Worker:
    """What a process of several that answer knows of itself and the others."""

    scoreboard: Scoreboard
    row: Row
    unavailable: str | None
    """Why the supervisor could not take the state directory, if it couldn't."""

    @property
    def others(self) -> list[Row]:
        """The rows of the others."""
        return [row for row in self.scoreboard.rows if row.index != self.row.index]
