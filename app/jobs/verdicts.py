"""What asking weights every query there is has shown: rows of the database, by their SHA-256."""

import logging

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.sqlite import insert

from app.jobs.database import Database
from app.jobs.schema import verdicts
from training.proof.check import Proof
from training.weights import ModelCard

logger = logging.getLogger(__name__)


class Verdicts:
    """All verdicts, read at the start; any thread may ask. Raises `StateUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._proofs: dict[str, Proof] = {}
        with database.transaction(write=False) as connection:
            for row in connection.execute(sa.select(verdicts)).mappings():
                try:
                    self._note(Proof.model_validate(row["proof"]))
                except ValidationError:  # then those weights are asked again
                    logger.error("the verdict on weights %s makes no sense", row["sha256"])

    def of(self, version: str, card: ModelCard | None) -> Proof | None:
        """What is known of a version, from its card or else from here."""
        return proof_on(card, version) or self._proofs.get(version)

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

    def _note(self, proof: Proof) -> None:
        self._proofs[proof.sha256[:12]] = proof


def proof_on(card: ModelCard | None, version: str) -> Proof | None:
    """The proof that a card has, if it is of this version."""
    proof = card.proof if card else None
    return proof if proof is not None and proof.sha256.startswith(version) else None
