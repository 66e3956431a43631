"""The versions that can be served: the shipped one and those that jobs made.

A version is a weights file with its card in `versions/`, and a row in the database. The file is
written whole before there is a row, and the row goes before the file does: so a file without a
row is what a crash left, and nothing else.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from app.errors import ConflictError, NotFoundError
from app.jobs.job import Version
from app.jobs.store import Store, VersionRow
from training.errors import MennyError, WeightsError
from training.weights import ModelCard, Weights, card_path, load_weights, save_weights

logger = logging.getLogger(__name__)

SHIPPED = "shipped"
"""The shipped version's other name."""


class Versions:
    """Lists, activates, deletes and prunes versions; one change at a time.

    `swap` makes the engine answer with other weights, and returns once it does.
    """

    def __init__(
        self, store: Store, folder: Path, shipped: Path, swap: Callable[[Weights], None], keep: int
    ) -> None:
        self._store = store
        self._folder = folder
        self._shipped_path = shipped
        self._swap = swap
        self._keep = keep
        self._change = threading.RLock()

    def all(self) -> list[Version]:
        """The newest ones first, the shipped one last."""
        active = self._store.active_version()
        versions = [
            Version(
                version=row.version,
                active=row.version == active,
                shipped=False,
                created=row.created,
                job=row.job,
                card=row.card,
            )
            for row in self._store.versions()
        ]
        shipped = self._shipped()
        if shipped is None:
            return versions
        return [*versions, shipped.model_copy(update={"active": active is None})]

    def one(self, name: str) -> Version:
        """Raises `NotFoundError`."""
        for version in self.all():
            if name == version.version or (name == SHIPPED and version.shipped):
                return version
        raise NotFoundError(f"there is no version {name}; GET /models lists those there are")

    def path(self, version: str | None) -> Path:
        """Where the weights of a version are; `None` is the shipped one."""
        return self._shipped_path if version is None else self._folder / f"{version}.npz"

    def activate(self, name: str) -> Version:
        """Serve it from now on, and after a restart.

        Raises `NotFoundError`, or `WeightsError` if its file is damaged: then all is as it was.
        """
        with self._change:
            version = self.one(name)
            key = None if version.shipped else version.version
            weights = self._load(key)
            before = self._store.active_version()
            self._store.set_active_version(key)
            try:
                self._swap(weights)
            except MennyError:
                self._store.set_active_version(before)
                raise
        logger.info("version %s is active", version.version)
        return version.model_copy(update={"active": True})

    def delete(self, name: str) -> None:
        """Raises `NotFoundError`, or `ConflictError` for the active and the shipped one."""
        with self._change:
            version = self.one(name)
            if version.shipped:
                raise ConflictError("the shipped version can't be deleted")
            if version.active:
                raise ConflictError(
                    f"version {version.version} is active: activate another one, then delete it"
                )
            self._delete(version.version)

    def keep(self, weights: Weights, card: ModelCard, job_id: int) -> None:
        """Write a job's version and keep it, inactive."""
        with self._change:
            row = self._write(weights, card, job_id)
            self._store.add_version(job_id, weights.version, row, activate=False)
            self._prune()

    def promote(
        self, weights: Weights, card: ModelCard, job_id: int, *, measured_against: str | None
    ) -> bool:
        """Write a job's version and serve it from now on; if the engine won't, only keep it.

        `False` if it is only kept because it was measured against a version that is not the
        active one any more; with `None` that is no matter.
        """
        with self._change:
            if measured_against not in {None, self._active_name()}:
                self.keep(weights, card, job_id)
                return False
            row = self._write(weights, card, job_id)
            before = self._store.active_version()
            self._store.add_version(job_id, weights.version, row, activate=True)
            try:
                self._swap(weights)
            except MennyError:
                self._store.unpromote(job_id, before)
                raise
            logger.info("version %s, made by job %d, is active", weights.version, job_id)
            self._prune()
            return True

    def tidy(self) -> None:
        """Remove the files that a crash left: those that are no version's."""
        known = {row.version for row in self._store.versions()}
        for path in self._folder.iterdir():
            if path.suffix not in {".npz", ".json"} or path.stem not in known:
                path.unlink()

    def _active_name(self) -> str | None:
        shipped = self._shipped()
        return self._store.active_version() or (shipped.version if shipped else None)

    def _shipped(self) -> Version | None:
        """Read anew each time: whoever replaces the file sends SIGHUP, and no word to us."""
        try:
            weights = load_weights(self._shipped_path)
        except WeightsError:
            return None
        return Version(
            version=weights.version,
            active=False,
            shipped=True,
            created=weights.card.created if weights.card else None,
            card=weights.card,
        )

    def _write(self, weights: Weights, card: ModelCard, job_id: int) -> VersionRow | None:
        """Write the file, unless it is there; `None` if the version is the shipped one."""
        version = weights.version
        shipped = self._shipped()
        if shipped is not None and version == shipped.version:
            return None
        try:
            known = self._load(version).card
        except WeightsError:
            known = None
        card = known or save_weights(self.path(version), weights.parameters, card)
        return VersionRow(version, datetime.now(UTC), job_id, card)

    def _load(self, version: str | None) -> Weights:
        weights = load_weights(self.path(version))
        if version is not None and weights.version != version:
            raise WeightsError(f"{self.path(version)} holds other weights than version {version}")
        return weights

    def _prune(self) -> None:
        """Delete the oldest versions beyond those to keep, never the active one."""
        with self._change:
            active = self._store.active_version()
            for row in self._store.versions()[self._keep :]:
                if row.version != active:
                    self._delete(row.version)
                    logger.info("version %s is deleted: there are newer ones", row.version)

    def _delete(self, version: str) -> None:
        self._store.delete_version(version)
        path = self.path(version)
        path.unlink(missing_ok=True)
        card_path(path).unlink(missing_ok=True)
