"""Follows a primary: asks which version it answers with, fetches that, and answers with it.

Whatever the primary does, the version that answers goes on until a better one is whole, checked
and ready: the primary may be gone, be slow, lie, or send half a file.
"""

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from pydantic import BaseModel, Field

from app.errors import ConflictError, PrimaryError, StateUnavailableError
from app.jobs.job import ActiveVersion
from app.jobs.lock import StateLock
from app.jobs.serving import ModelEngine, Serving
from app.jobs.verdicts import proof_on
from app.replica.files import Followed, ReplicaFiles
from app.settings import Settings
from training.errors import MennyError
from training.proof.check import Proof
from training.weights import ModelCard

if TYPE_CHECKING:
    import httpx  # it takes a tenth of a start, and only a replica needs it

logger = logging.getLogger(__name__)

ASK_S = 1.0
"""How often the primary is asked."""
RETRY_S = 30.0
"""How long what was refused is not fetched again."""
STOP_S = 3.0
"""Seconds that the thread gets to end; it is a daemon, and holds up no exit."""


class Following(BaseModel):
    """How a replica is doing with its primary."""

    primary: str = Field(description="the service that is followed")
    generation: int | None = Field(None, description="of the version that answers")
    fault: str | None = Field(None, description="why the primary is not followed at the moment")
    since: datetime | None = Field(None, description="since when it is not")


class Follower:
    """In place of `Retraining` where there are no jobs and versions: those are the primary's.

    `start` serves what was followed last, if anything was, and follows from then on; `stop` ends
    that.
    """

    def __init__(
        self,
        settings: Settings,
        engine: ModelEngine,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        assert settings.follow is not None  # noqa: S101 - else there would be no follower
        token = settings.read_token
        from app.replica.primary import Primary

        self._primary = Primary(
            settings.follow, token.get_secret_value() if token else None, transport
        )
        self._engine = engine
        self._state_dir = settings.state_dir
        self._lock: StateLock | None = None
        self._files: ReplicaFiles | None = None
        self._serving: Serving | None = None
        self._active: ActiveVersion | None = None
        self._etag: str | None = None
        self._refused: tuple[ActiveVersion, float, str] | None = None
        self._fault: str | None = None
        self._since: datetime | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="menny-follower", daemon=True)

    @property
    def following(self) -> Following:
        """How it is doing."""
        active = self._active
        return Following(
            primary=self._primary.url,
            generation=active and active.generation,
            fault=self._fault,
            since=self._since,
        )

    @property
    def note(self) -> str | None:
        """What the person in charge should know, if there is anything."""
        if self._fault is None or self._since is None or self._active is None:
            return None
        return (
            f"since {self._since.isoformat(timespec='seconds')} the primary is not followed: "
            f"{self._fault}; version {self._active.version} goes on answering"
        )

    def proof_of(self, version: str, card: ModelCard | None) -> Proof | None:
        """What its primary or its card says of a version: their word is all that a replica has."""
        active = self._active
        told = active.proof if active is not None and active.version == version else None
        return told or proof_on(card, version)

    @property
    def store(self) -> NoReturn:
        """Raises `ConflictError`, which names the primary."""
        raise ConflictError(
            f"this is a replica, without jobs and versions of its own: ask its primary, "
            f"{self._primary.url}"
        )

    versions = store

    def start(self) -> None:
        """Serve what was followed last, and begin to follow; never waits for the primary."""
        self._engine.fault = f"nothing has been heard yet of {self._primary.url}, which is followed"
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            self._lock = StateLock(self._state_dir)
            self._files = ReplicaFiles(self._state_dir / "replica")
        except (OSError, StateUnavailableError) as error:
            self._engine.fault = f"nothing can be followed: {error}"
            logger.error(self._engine.fault)
            return
        self._serving = Serving(self._engine, self._files.folder, self._files.folder)
        followed = self._files.read()
        if followed is not None and followed.primary == self._primary.url:
            try:
                self._serve(followed.active)
            except MennyError as error:
                logger.error("what was followed last can't be served: %s", error)
        self._thread.start()

    def reload(self) -> None:
        """Ask the primary now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        self._primary.close()
        if self._lock is not None:
            self._lock.release()

    # --- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.follow()
            except Exception:
                logger.exception("the primary can't be followed")
                self._note_fault("a fault of this replica; its log has more")
            self._wake.wait(ASK_S)
            self._wake.clear()

    def follow(self) -> None:
        """Ask the primary once, and do as it does."""
        try:
            found = self._primary.ask(self._etag)
            if found is not None:
                announced, etag = found
                if announced != self._active:
                    self._take(announced)
                self._etag = etag
        except MennyError as error:
            self._note_fault(str(error))
            return
        if self._fault is not None:
            logger.info("%s is followed again", self._primary.url)
        self._fault = self._since = None

    def _take(self, announced: ActiveVersion) -> None:
        """Answer with what is announced; raises `MennyError`, and all is as it was."""
        self._check_order(announced)
        if self._refused is not None:
            refused, when, reason = self._refused
            if refused == announced and time.monotonic() - when < RETRY_S:
                raise PrimaryError(reason)
        try:
            self._fetch(announced)
            self._serve(announced)
        except MennyError as error:
            self._refused = announced, time.monotonic(), str(error)
            raise
        self._refused = None
        with suppress(OSError):
            self._the_files.prune(announced)

    def _check_order(self, announced: ActiveVersion) -> None:
        """A primary goes back by a higher generation; a lower one is not its word, or not now's."""
        active = self._active
        if active is None:
            return
        if announced.generation < active.generation:
            raise PrimaryError(
                f"{self._primary.url} announces generation {announced.generation}, which is below "
                f"{active.generation}"
            )
        if announced.generation == active.generation and announced.weights != active.weights:
            raise PrimaryError(
                f"{self._primary.url} announces version {announced.version} in generation "
                f"{active.generation}, which was version {active.version}"
            )

    def _fetch(self, announced: ActiveVersion) -> None:
        """Keep the files of a version, unless they are kept already."""
        if self._the_files.has(announced):
            return
        parts = {
            part: self._primary.fetch(announced.version, part, sha256)
            for part, sha256 in announced.parts.items()
        }
        self._the_files.keep(announced, parts)

    def _serve(self, version: ActiveVersion) -> None:
        """Answer with a version whose files are kept, now and after a restart."""
        files = self._the_files
        weights = files.load(version)
        followed = Followed(primary=self._primary.url, active=version)
        assert self._serving is not None  # noqa: S101 - as the files are there
        self._serving.switch(weights, files.key(version), lambda: files.write(followed))
        self._active = version
        logger.info(
            "version %s, generation %d of %s, is followed",
            version.version,
            version.generation,
            self._primary.url,
        )

    @property
    def _the_files(self) -> ReplicaFiles:
        assert self._files is not None  # noqa: S101 - `start` has seen to it
        return self._files

    def _note_fault(self, reason: str) -> None:
        if reason != self._fault:  # once, and not each time until it is put right
            logger.error("the primary is not followed: %s", reason)
        self._fault = reason
        self._since = self._since or datetime.now(UTC)
        if self._active is None:
            self._engine.fault = f"there is no version to answer with yet: {reason}"
