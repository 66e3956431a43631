"""The versions that can be served: the shipped one and those that jobs made.

A version is a weights file with its card in `versions/`, and a row in the database. The file is
written whole before there is a row, and the row goes before the file does. A file without a row
is taken in again: either a crash left it, or the database was lost.
"""

import logging
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import (
    ConflictError,
    ModelUnavailableError,
    NotFoundError,
    StateUnavailableError,
)
from app.jobs.job import ActiveVersion, Version
from app.jobs.parts import Part, hash_part, read_part
from app.jobs.proving import Prover
from app.jobs.serving import Serving, read_card
from app.jobs.store import Store
from training.errors import WeightsError
from training.weights import (
    ModelCard,
    Weights,
    card_path,
    load_card,
    load_weights,
    save_weights,
)
from training.weights.untrusted import NoFileError

logger = logging.getLogger(__name__)

SHIPPED = "shipped"
"""The shipped version's other name."""

_VERSION_FILE = re.compile(r"([0-9a-f]{12})\.npz")
_UNFINISHED_FILE = re.compile(r"\.[0-9a-f]{12}\.(npz|json)\.\w+")
"""What `save_weights` calls a file that it has not finished."""


class Versions:
    """Lists, activates, keeps, deletes and prunes versions."""

    def __init__(
        self, store: Store, serving: Serving, prover: Prover, folder: Path, keep: int
    ) -> None:
        self._store = store
        self._prover = prover
        self._serving = serving
        self._folder = folder
        self._keep = keep

    def list_all(self) -> list[Version]:
        """The newest first, the shipped one last; the active one is the one that answers."""
        with self._serving.change:
            key, answers = self._serving.key, self._serving.version is not None
            shipped = self._serving.look_at_shipped()
            versions = [
                self._describe(
                    row.version,
                    read_card(self._serving.path(row.version)),
                    active=row.version == key,
                    shipped=False,
                    created=row.created,
                    job=row.job,
                )
                for row in self._store.list_versions()
            ]
        if shipped is not None:
            versions.append(
                self._describe(
                    shipped.version,
                    shipped.card,
                    active=answers and key is None,
                    shipped=True,
                    created=shipped.card and shipped.card.created,
                )
            )
        return versions

    def _describe(self, version: str, card: ModelCard | None, **facts: Any) -> Version:
        proof, proving = self._prover.proof_of(version, card), self._prover.state_of(version)
        return Version(version=version, card=card, proof=proof, proving=proving, **facts)

    def get(self, name: str) -> Version:
        """Raises `NotFoundError`."""
        for version in self.list_all():
            if name == version.version or (name == SHIPPED and version.shipped):
                return version
        raise NotFoundError(f"there is no version {name}; GET /models lists those there are")

    def prove(self, name: str) -> Version:
        """Have it proven in the background, whether or not it was.

        Raises `NotFoundError`, or `ConflictError` while a version is being proven.
        """
        version = self.get(name)
        self._prover.request(version.version, None if version.shipped else version.version)
        return self.get(name)

    def activate(self, name: str) -> Version:
        """Serve it from now on, and after a restart.

        Raises `NotFoundError`, or `WeightsError` if its file is damaged: then all is as it was.
        """
        with self._serving.change:
            version = self.get(name)
            key = None if version.shipped else version.version
            weights = self._serving.load(key)
            if name not in {SHIPPED, weights.version}:
                raise WeightsError(
                    f"{self._serving.path(key)} holds version {weights.version} now, not {name}"
                )
            self._serving.switch(
                weights, key, lambda: self._store.activate_version(key, weights.version)
            )
            logger.info("version %s is active", weights.version)
            return self.get(SHIPPED if key is None else name)

    def delete(self, name: str) -> None:
        """Raises `NotFoundError`, or `ConflictError` for the active and the shipped one."""
        with self._serving.change:
            version = self.get(name)
            if version.shipped:
                raise ConflictError("the shipped version can't be deleted")
            if version.version in self._in_use():
                raise ConflictError(
                    f"version {version.version} is active: activate another one, then delete it"
                )
            self._delete(version.version)

    def keep(self, weights: Weights, card: ModelCard, job_id: int) -> None:
        """Write a job's version and keep it, inactive; the oldest ones beyond `keep` go."""
        with self._serving.change:
            self._write(weights, card, job_id)
            self._prune()

    def promote(
        self, weights: Weights, card: ModelCard, job_id: int, *, measured_against: str | None
    ) -> bool:
        """Write a job's version and serve it from now on; if the engine won't, only keep it.

        `False` if it is only kept because it was measured against a version that is not the
        active one any more; with `None` that is no matter.
        """
        with self._serving.change:
            key, written = self._write(weights, card, job_id)
            is_outdated = measured_against not in {None, self._serving.version}
            if not is_outdated:
                self._serving.switch(
                    replace(weights, card=written),
                    key,
                    lambda: self._store.activate_version(key, weights.version, job_id),
                )
                logger.info("version %s, made by job %d, is active", weights.version, job_id)
            self._prune()
            return not is_outdated

    def copy_active(self, target: Path) -> Weights | None:
        """Copy the version that answers, for a look that nobody's deletion disturbs.

        `None` if there is no model that answers; raises `WeightsError` if its file has not the
        weights that answer.
        """
        with self._serving.change:
            if self._serving.version is None:
                return None
            path = self._serving.path(self._serving.key)
            try:
                shutil.copyfile(path, target)
                if card_path(path).exists():
                    shutil.copyfile(card_path(path), card_path(target))
            except OSError as error:
                raise WeightsError(f"can't copy {path}: {error.strerror}") from error
            weights = load_weights(target)
            if weights.version != self._serving.version:
                raise WeightsError(f"{path} holds other weights than those that answer")
            return weights

    def announce(self) -> ActiveVersion:
        """What replicas are to answer with; raises `ModelUnavailableError` if nothing does here."""
        with self._serving.change:
            key, version = self._serving.key, self._serving.version
            sha256 = self._serving.sha256
            if version is None or sha256 is None:
                raise ModelUnavailableError("there is no model that answers")
            path, table = self._serving.path(key), self._prover.find_table(version)
            return ActiveVersion(
                version=version,
                generation=self._store.announce(version),
                weights=sha256,
                card=hash_part(path, "card"),
                answers=hash_part(path, "answers", table),
                proof=self._prover.proof_of(version, load_card(path)),
            )

    def read(self, name: str, part: Part) -> bytes:
        """A file of a version's; raises `NotFoundError` if it has none, or `WeightsError`."""
        version = self.get(name)
        path = self._serving.path(None if version.shipped else version.version)
        try:
            return read_part(path, part, self._prover.find_table(version.version))
        except NoFileError:
            raise NotFoundError(f"version {version.version} has no {part}") from None

    def take_in(self) -> list[str]:
        """Add the versions whose files have no row, and remove what a crash left half-written.

        Returns the names of those added. What is none of ours is left alone.
        """
        known = {row.version for row in self._store.list_versions()}
        found: list[tuple[datetime, datetime, str]] = []
        for path in self._folder.iterdir():
            if self._is_leftover(path, known):
                path.unlink()
            match = _VERSION_FILE.fullmatch(path.name)
            if match is None or match[1] in known:
                continue
            try:
                card = self._serving.load(match[1]).card
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                found.append((card.created if card else written, written, match[1]))
            except (WeightsError, OSError) as error:
                logger.error("%s is left alone, for it is no version: %s", path, error)
        for created, _, version in sorted(found):
            self._store.add_version(version, created)
            logger.warning("version %s had no row: it is taken in again", version)
        return [version for *_, version in sorted(found)]

    def _is_leftover(self, path: Path, known: set[str]) -> bool:
        """Whether a file is half of what was being written or deleted, and no weights."""
        is_lone_card = (
            _VERSION_FILE.fullmatch(path.with_suffix(".npz").name)
            and path.suffix == ".json"
            and path.stem not in known
            and not path.with_suffix(".npz").exists()
        )
        return path.is_file() and bool(is_lone_card or _UNFINISHED_FILE.fullmatch(path.name))

    def _in_use(self) -> set[str | None]:
        """What may not be deleted: what answers, and what a restart would serve."""
        return {self._serving.key, self._store.get_active_version()}

    def _write(
        self, weights: Weights, card: ModelCard, job_id: int
    ) -> tuple[str | None, ModelCard | None]:
        """Keep a version, file and row; returns its key and its card.

        The same configuration makes the same weights: their file may be there, or be the shipped.
        """
        version = weights.version
        shipped = self._serving.look_at_shipped()
        if shipped is not None and version == shipped.version:
            self._store.keep_version(job_id, version, key=None)
            return None, shipped.card
        written: ModelCard | None = None
        try:
            written = self._serving.load(version).card
        except WeightsError:
            written = save_weights(self._serving.path(version), weights.parameters, card)
        self._store.keep_version(job_id, version, key=version)
        return version, written

    def _prune(self) -> None:
        """Delete the oldest versions beyond those to keep besides the active one."""
        try:
            in_use = self._in_use()
            others = [row for row in self._store.list_versions() if row.version not in in_use]
            for row in others[self._keep :]:
                self._delete(row.version)
                logger.info("version %s is deleted: there are newer ones", row.version)
        except StateUnavailableError as error:  # the job has succeeded all the same
            logger.error("old versions are not deleted: %s", error)

    def _delete(self, version: str) -> None:
        self._store.delete_version(version)
        path = self._serving.path(version)
        try:
            path.unlink(missing_ok=True)
            card_path(path).unlink(missing_ok=True)
            self._prover.delete_tables(version)
        except OSError as error:
            raise StateUnavailableError(f"can't delete {path}: {error.strerror}") from error
