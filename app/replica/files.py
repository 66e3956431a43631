"""What a replica keeps of versions: each in a folder of its own, and which one it follows.

    STATE/replica/following.json            the primary's address and what it announced last
    STATE/replica/HASHES/VERSION.npz        with the card and the answer table beside it

A folder appears whole, by a rename. Nobody vouches for what is in it: it is checked each time.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from app.errors import StateUnavailableError
from app.jobs.job import ActiveVersion
from app.jobs.parts import Part, hash_part, part_path
from training.atomic import sync_folder, write_atomically
from training.errors import WeightsError
from training.proof.answers import load_table, table_path
from training.weights import Weights, load_weights
from training.weights.untrusted import read_file

KEEP = 3
"""Versions that stay, the one that is followed among them: a rollback fetches nothing."""
_MAX_STATE_SIZE = 64 * 2**10


class Followed(BaseModel):
    """What is followed."""

    primary: str
    active: ActiveVersion


class ReplicaFiles:
    """The files in `folder`, which is made; raises `StateUnavailableError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "following.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".new-*"):
                shutil.rmtree(leftover)
        except OSError as error:
            raise self._unavailable(error) from error

    def read(self) -> Followed | None:
        """What was followed last; `None` if nothing was, or nobody can tell."""
        try:
            return Followed.model_validate_json(read_file(self._state, _MAX_STATE_SIZE))
        except (WeightsError, ValidationError):
            return None

    def write(self, followed: Followed) -> None:
        """Follow this from now on, and after a restart."""
        try:
            write_atomically(self._state, [followed.model_dump_json(indent=2).encode()])
        except OSError as error:
            raise self._unavailable(error) from error

    def key(self, active: ActiveVersion) -> str:
        """Where the weights are, below the folder and without `.npz`."""
        hashes = [
            (digest or "none")[:16] for digest in (active.weights, active.card, active.answers)
        ]
        return f"{'-'.join(hashes)}/{active.version}"

    def weights_path(self, active: ActiveVersion) -> Path:
        """Where the weights are."""
        return self.folder / f"{self.key(active)}.npz"

    def has(self, active: ActiveVersion) -> bool:
        """Whether the files of a version are kept."""
        return self.weights_path(active).parent.is_dir()

    def keep(self, active: ActiveVersion, parts: Mapping[Part, bytes]) -> None:
        """Keep the files of a version, all or none of them; raises `StateUnavailableError`."""
        final = self.weights_path(active)
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as new:
                whole = Path(new) / "whole"
                whole.mkdir()
                for part, content in parts.items():
                    write_atomically(part_path(whole / final.name, part), [content])
                os.rename(whole, final.parent)
            sync_folder(self.folder)
        except OSError as error:
            raise self._unavailable(error) from error

    def load(self, active: ActiveVersion) -> Weights:
        """The checked weights, once they and what is beside them are what was announced.

        If they are not, they are thrown away and `WeightsError` is raised.
        """
        path = self.weights_path(active)
        try:
            weights = load_weights(path)
            for part, sha256 in active.parts.items():
                if hash_part(path, part) != sha256:
                    raise WeightsError(f"{part_path(path, part)} is not as it was announced")
            if active.answers is not None:
                load_table(table_path(path), weights.sha256)
            return weights
        except WeightsError:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise

    def prune(self, active: ActiveVersion) -> None:
        """Throw the oldest versions away, never the one that is followed."""
        followed = self.weights_path(active).parent
        os.utime(followed)
        folders = [path for path in self.folder.iterdir() if path.is_dir() and path != followed]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[KEEP - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def _unavailable(self, error: OSError) -> StateUnavailableError:
        return StateUnavailableError(
            f"the folder {self.folder} can't be used: {error.strerror}; make it a writable "
            "directory, or name another MENNY_STATE_DIR"
        )
