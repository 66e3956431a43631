"""What this process answers with: the one place where that changes, one change at a time.

A change has three steps: the engine prepares the new model beside the old one, the database takes
it as the active one, the engine installs it. Only the last one can be seen, and it can't fail; so
what answers, what `/models` says and what a restart would serve are never two things.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from app.errors import StateUnavailableError
from training.errors import MennyError, WeightsError
from training.weights import ModelCard, Weights, load_card, load_weights

logger = logging.getLogger(__name__)

_REMEDY = (
    "make weights with `menny train`, or name others with MENNY_WEIGHTS, then restart the service "
    "or send it SIGHUP"
)


class ModelEngine(Protocol):
    """What an engine must be able to do (`app.inference.engine.Engine`)."""

    fault: str | None

    def look_up(self, weights: Weights, file: Path) -> Any:
        """What could answer by a table alone, without a model; `.table` is `None` without one."""

    def prepare(self, weights: Weights, file: Path) -> Any:
        """What could answer, table and model; raises `MennyError`, and the old one goes on."""

    def install(self, served: Any) -> None:
        """Have it answer, once this returns."""

    def look_up_again(self, weights: Weights, file: Path) -> None:
        """Take up the table of the weights that answer, as it is now."""


@dataclass(frozen=True)
class Prepared:
    """A version that could answer at once."""

    weights: Weights
    key: str | None
    served: Any


Switching = Callable[[str | None], AbstractContextManager[Callable[[], None]]]
"""From a version's key to a block, within which it becomes active once the function returns."""


class Serving:
    """The version that answers. Hold `change` to read and change it in one go."""

    def __init__(
        self,
        engine: ModelEngine,
        shipped: Path,
        folder: Path,
        *,
        is_pinned: bool = False,
        change: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`is_pinned`: `reload` serves `shipped`, whichever version is active."""
        self._engine = engine
        self._is_pinned = is_pinned
        self._shipped_path = shipped
        self._folder = folder
        self.change = change or threading.RLock()
        self.installing = threading.RLock()
        """Held while what answers becomes another; `change` may be held by another worker then."""
        self.switching: Switching = _alone
        """Around all three steps: has other workers come along."""
        self.key: str | None = None
        """The version that answers; `None` for the shipped one, or if there is no model."""
        self.version: str | None = None
        """Its name, the shipped one's too; `None` if there is no model."""
        self.sha256: str | None = None
        """Its weights' whole SHA-256."""
        self.shipped: Weights | None = None
        """The shipped version as it was when it answered or was looked at, without parameters."""
        self.note: str | None = None
        """Why the active version is not the one that answers, if it isn't."""

    def path(self, key: str | None) -> Path:
        """Where the weights of a version are; `None` is the shipped one."""
        return self._shipped_path if key is None else self._folder / f"{key}.npz"

    def load(self, key: str | None) -> Weights:
        """Raises `WeightsError` if the file is damaged, or has another version's weights."""
        weights = load_weights(self.path(key))
        if key is not None and weights.version != key:
            raise WeightsError(f"{self.path(key)} holds other weights than version {key}")
        return weights

    def look_at_shipped(self) -> Weights | None:
        """The shipped version with its card as that is now: `menny verify` writes into it.

        The weights themselves are read once: a file that was replaced counts from SIGHUP on.
        """
        with self.change:
            if self.shipped is None:
                with suppress(WeightsError):
                    self.shipped = replace(self.load(None), parameters={})
            if self.shipped is None:
                return None
            card = read_card(self._shipped_path)
            is_its = card is not None and card.sha256 == self.shipped.sha256
            return replace(self.shipped, card=card) if is_its else self.shipped

    def switch(self, weights: Weights, key: str | None, commit: Callable[[], None]) -> None:
        """Have these weights answer; `commit` makes them the active ones in the database.

        Raises `MennyError`, from the engine or from `commit`: then all is as it was.
        """
        with self.change, self.switching(key) as wait_for_others:
            prepared = Prepared(weights, key, self._engine.prepare(weights, self.path(key)))
            wait_for_others()
            with self.installing:
                commit()
                self.install(prepared)

    def prepare(self, key: str | None) -> Prepared:
        """Load a version beside the one that answers; raises `MennyError`."""
        weights = self.load(key)
        return Prepared(weights, key, self._engine.prepare(weights, self.path(key)))

    def install(self, prepared: Prepared) -> None:
        """Have it answer, once this returns."""
        with self.installing:
            self._engine.install(prepared.served)
            self._note_switch(prepared.weights, prepared.key)
            self.note = self._engine.fault = None

    def start(self, find_active: Callable[[], str | None]) -> None:
        """Answer from the table of what is active, if there is one, until `reload` has the model.

        If the model can't be built, the table goes on answering.
        """
        with self.change, suppress(MennyError):
            key = None if self._is_pinned else find_active()
            weights = self.load(key)
            served = self._engine.look_up(weights, self.path(key))
            if served.table is not None:
                self._engine.install(served)
                self._note_switch(weights, key)

    def has_table(self) -> bool:
        """Whether there is a good table of what answers; raises as `look_up_again`."""
        with self.change:
            found = self._engine.look_up(self.load(self.key), self.path(self.key))
            return found.table is not None

    def look_up_again(self) -> None:
        """Take up the answer table of what answers: it may have been made, mended or removed.

        Raises `WeightsError` if the weights' file is not as it was; then nothing changes.
        """
        with self.installing:
            if self.version is not None:
                self._engine.look_up_again(self.load(self.key), self.path(self.key))

    def reload(self, find_active: Callable[[], str | None]) -> None:
        """Serve what is active, from its file as it is now; if that can't be, say so.

        Then the model that answers goes on, or else the shipped one answers.
        """
        with self.change:
            key = self.key
            try:
                key = find_active()
            except StateUnavailableError as error:  # that changes nothing of what is served
                logger.error("which version is active can't be read: %s", error)
            active, key = key, None if self._is_pinned else key
            fault = key and self._try(key)
            if key and not fault:
                self.shipped = None  # to be looked at anew
                return
            if self.key is not None and fault:
                self._engine.fault = f"{fault}; version {self.key} goes on answering"
                return
            if fallback_fault := self._try(None):
                self._engine.fault = f"{fallback_fault}; {_REMEDY}"
            elif self._is_pinned and active:
                self.note = (
                    f"{self._shipped_path} is served, as --weights asks, though version {active} "
                    "is the active one"
                )
                logger.warning(self.note)
            if fault:
                self.note = (
                    f"version {key} is the active one, but can't be served: {fault}; the shipped "
                    "weights answer instead"
                )
                logger.error(self.note)

    def _note_switch(self, weights: Weights, key: str | None) -> None:
        self.key, self.version, self.sha256 = key, weights.version, weights.sha256
        if key is None:
            self.shipped = replace(weights, parameters={})

    def _try(self, key: str | None) -> str | None:
        """Serve a version; returns why not."""
        try:
            self.install(self.prepare(key))
        except MennyError as error:
            logger.error("can't serve %s: %s", self.path(key), error)
            return str(error)
        return None


def _alone(_key: str | None) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def read_card(path: Path) -> ModelCard | None:
    """The card beside a weights file; `None` if there is none that can be read."""
    try:
        return load_card(path)
    except WeightsError as error:
        logger.error("%s", error)
        return None
