"""The workers of a service change the version that answers together, in two phases.

Whoever changes it (`Serving.switch`, under the lock that all workers share) writes the proposal
into the database. Each other worker looks there some times a second, loads that version and
reports that it is ready. Then one transaction makes it the active one, all install it, and the
change is done once each has said so: after that nobody answers with an older one. The reports are
numbers of the scoreboard; they may be lost, for a worker that starts reads what is active.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.engine import Row as DatabaseRow

from app.errors import StateUnavailableError, WorkerError
from app.jobs.database import Database
from app.jobs.schema import active
from app.jobs.serving import Prepared, Serving
from app.scoreboard import Row, Worker
from training.errors import MennyError

logger = logging.getLogger(__name__)

POLL_S = 0.1
"""How often a worker looks for a proposal."""
READY_S = 10.0
"""How long the others get to be ready; then nothing is changed."""
SERVE_S = 10.0
"""How long they then get to serve it, unless they are silent; then they are killed."""
_LOOK_S = 0.02


class Peers:
    """The other workers, as this one sees them. `join`, then `leave`."""

    def __init__(self, database: Database, serving: Serving, worker: Worker) -> None:
        self._database = database
        self._serving = serving
        self._worker = worker
        self._row = worker.row
        self._prepared: tuple[int, Prepared] | None = None
        self._num_tables = 0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="menny-peers", daemon=True)

    def join(self) -> None:
        """Take part from now on; the caller holds `Serving.change` and has loaded what is active.

        Raises `StateUnavailableError`.
        """
        self._withdraw()  # what somebody has proposed and did not live to make
        found = self._look()
        self._num_tables = found.tables
        self._row.ready = self._row.serves = found.switched
        self._row.has_joined = 1
        self._serving.switching = self.switching
        self._thread.start()

    def leave(self) -> None:
        """Take part no more; nothing is answered any more either."""
        self._row.has_joined = self._row.beat = 0
        self._leaving.set()
        self._thread.join(POLL_S)

    @contextmanager
    def switching(self, key: str | None) -> Iterator[Callable[[], None]]:
        """Have the others prepare a version during the block, in which it becomes the active one.

        That is no sooner than the function, which is what the block gets, has returned; it raises
        `WorkerError`. After the block all serve that version.
        """
        number = self._propose(key)
        try:
            yield lambda: self._wait_until_ready(number)
            self._row.ready = self._row.serves = number
        except BaseException:
            with suppress(StateUnavailableError):  # or the next proposal takes its place
                self._withdraw()
            raise
        self._wait_until_served(number)

    # --- who changes it -------------------------------------------------------------------------

    def _propose(self, key: str | None) -> int:
        with self._database.transaction() as connection:
            number: int = connection.execute(sa.select(active.c.proposal)).scalar_one() + 1
            values = {"proposed": key, "proposal": number, "proposer": self._row.index}
            connection.execute(sa.update(active).values(values))
        return number

    def _withdraw(self) -> None:
        with self._database.transaction() as connection:
            connection.execute(sa.update(active).values(proposer=None))

    def _wait_until_ready(self, number: int) -> None:
        deadline = time.monotonic() + READY_S
        while late := [row for row in self._others() if row.ready != number]:
            first = late[0]
            if first.ready == -number:
                raise WorkerError(
                    f"{_name(first)} can't load that version, and its log says why: nothing is "
                    "changed"
                )
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"{_name(first)} was not ready for that version within {READY_S:g} s: nothing "
                    "is changed"
                )
            time.sleep(_LOOK_S)

    def _wait_until_served(self, number: int) -> None:
        began = time.monotonic()
        while late := [row for row in self._others() if row.serves < number]:
            waited_s = time.monotonic() - began
            for row in late:
                if waited_s > SERVE_S or row.is_silent:
                    row.condemned = row.pid  # the supervisor kills it
            if waited_s > 2 * SERVE_S:
                raise WorkerError(f"the version is active, but {_name(late[0])} does not serve it")
            time.sleep(_LOOK_S)

    def _others(self) -> list[Row]:
        """The other workers that answer; one that only starts will read what is active."""
        return [row for row in self._worker.others if row.pid and (row.has_joined or row.beat)]

    # --- who comes along ------------------------------------------------------------------------

    def _run(self) -> None:
        complaint = ""
        while not self._leaving.wait(POLL_S):
            try:
                self.follow()
                complaint = ""
            except MennyError as error:
                if str(error) != complaint:  # once, and not each time until it is put right
                    complaint = str(error)
                    logger.error("the other workers can't be followed: %s", error)

    def follow(self) -> None:
        """Look once: prepare what is proposed, install what is made; raises `MennyError`."""
        found = self._look()
        if found.tables != self._num_tables:
            self._num_tables = found.tables
            self._serving.look_up_again()
        number = found.proposal
        is_withdrawn = found.proposer is None and found.switched != number
        if is_withdrawn or number <= self._row.serves or found.proposer == self._row.index:
            self._prepared = None
            return
        if self._row.ready == -number:
            return
        if self._prepared is None or self._prepared[0] != number:
            try:
                self._prepared = number, self._serving.prepare(found.proposed)
            except MennyError:
                self._row.ready = -number
                raise
        self._row.ready = number
        with self._serving.installing:
            if self._look().switched == number:
                self._serving.install(self._prepared[1])
                self._row.serves = number

    def _look(self) -> "DatabaseRow[tuple[object, ...]]":
        with self._database.transaction(write=False) as connection:
            return connection.execute(sa.select(active)).one()


def _name(row: Row) -> str:
    return f"{row.name} (process {row.pid})"
