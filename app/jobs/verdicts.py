"""What asking weights every query there is has shown, and how it is getting on: database rows."""

import logging
from contextlib import suppress

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.sqlite import insert

from app.errors import ConflictError, StateUnavailableError
from app.jobs.database import Database
from app.jobs.job import Proving
from app.jobs.schema import active, proofs, verdicts
from training.proof.check import Proof
from training.weights import ModelCard

logger = logging.getLogger(__name__)


_ON_ITS_WAY = proofs.c.fault.is_(None)


class Verdicts:
    """For any thread or process; all but `of` raise `StateUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._proofs: dict[str, Proof] = {}
        """What is known even if the database can't be asked."""
        self._complaints: set[str] = set()
        self._read()

    def of(self, version: str, card: ModelCard | None) -> Proof | None:
        """What is known of a version, from its card or else from here."""
        if (proof := proof_on(card, version)) is not None:
            return proof
        with suppress(StateUnavailableError):
            self._read(version)
        return self._proofs.get(version)

    def keep(self, proof: Proof) -> None:
        """Keep a verdict, and never forget it; until a restart even if the database won't take it.

        The row outlives its version: the same weights may come again.
        """
        self._note(proof)
        values = {"proof": proof.model_dump(mode="json")}
        insertion = insert(verdicts).values(sha256=proof.sha256, **values)
        with self._database.transaction() as connection:
            connection.execute(
                insertion.on_conflict_do_update(index_elements=["sha256"], set_=values)
            )

    # --- proofs that are on their way -----------------------------------------------------------

    def begin(self, version: str, key: str | None, *, requested: bool = True) -> None:
        """Have a version proven; raises `ConflictError` while there is one that is to be."""
        values = {"key": key, "requested": requested, "progress": 0.0, "fault": None}
        insertion = insert(proofs).values(version=version, **values)
        with self._database.transaction() as connection:
            other = connection.scalar(sa.select(proofs.c.version).where(_ON_ITS_WAY))
            if other is not None:
                raise ConflictError(
                    f"version {other} is being proven, and there is one at a time: wait for its "
                    "verdict"
                )
            connection.execute(
                insertion.on_conflict_do_update(index_elements=["version"], set_=values)
            )

    def find_begun(self) -> tuple[str, str | None] | None:
        """The version that is to be proven, and its key."""
        with self._database.transaction(write=False) as connection:
            row = connection.execute(sa.select(proofs).where(_ON_ITS_WAY)).first()
            return None if row is None else (row.version, row.key)

    def set_progress(self, version: str, progress: float) -> None:
        """Set the share of queries that were asked."""
        with self._database.transaction() as connection:
            connection.execute(
                sa.update(proofs).where(proofs.c.version == version).values(progress=progress)
            )

    def end(self, version: str, fault: str | None = None) -> None:
        """Nobody is at it any more; `fault` says why there is no verdict."""
        own = proofs.c.version == version
        with self._database.transaction() as connection:
            if fault is None:
                connection.execute(sa.delete(proofs).where(own))
            else:
                connection.execute(sa.update(proofs).where(own).values(fault=fault))

    def pause(self) -> None:
        """What is on its way and nobody has asked for is begun anew when it is due."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(proofs).where(_ON_ITS_WAY, ~proofs.c.requested))

    def forget(self) -> None:
        """The same, and what could not be finished may be tried again."""
        self.pause()
        with self._database.transaction() as connection:
            connection.execute(sa.delete(proofs).where(~_ON_ITS_WAY))

    def state_of(self, version: str) -> Proving | None:
        """How the proof of a version is getting on; `None` if nobody is at it or has failed."""
        with self._database.transaction(write=False) as connection:
            row = connection.execute(sa.select(proofs).where(proofs.c.version == version)).first()
        if row is None:
            return None
        return Proving(progress=0 if row.fault else row.progress, fault=row.fault)

    def note_table(self) -> None:
        """Have every worker take up the table of what answers."""
        with self._database.transaction() as connection:
            connection.execute(sa.update(active).values(tables=active.c.tables + 1))

    def _read(self, version: str = "") -> None:
        with self._database.transaction(write=False) as connection:
            found = sa.select(verdicts).where(verdicts.c.sha256.startswith(version))
            for row in connection.execute(found).mappings():
                try:
                    self._note(Proof.model_validate(row["proof"]))
                except ValidationError:  # then those weights are asked again
                    if row["sha256"] not in self._complaints:
                        self._complaints.add(row["sha256"])
                        logger.error("the verdict on weights %s makes no sense", row["sha256"])

    def _note(self, proof: Proof) -> None:
        self._proofs[proof.sha256[:12]] = proof


def proof_on(card: ModelCard | None, version: str) -> Proof | None:
    """The proof that a card has, if it is of this version."""
    proof = card.proof if card else None
    return proof if proof is not None and proof.sha256.startswith(version) else None
