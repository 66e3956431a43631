"""Which answer table, if any, answers for the weights that serve."""

import logging
from pathlib import Path
from typing import Literal

from training.errors import WeightsError
from training.proof.answers import AnswerTable, load_table, table_path
from training.weights import Weights
from training.weights.untrusted import NoFileError

logger = logging.getLogger(__name__)

TABLE = "a table has every answer of these weights"
NO_TABLE = "there is no answer table of these weights: `menny verify` makes one"
MODEL_WANTED = "MENNY_ANSWERS=model asks the model"


class Tables:
    """Finds the table of weights: beside their file, or in `folder`, by their SHA-256."""

    def __init__(self, folder: Path, source: Literal["auto", "model"] = "auto") -> None:
        self._folder = folder
        self._source = source

    def find(self, weights: Weights, file: Path) -> tuple[AnswerTable | None, str]:
        """The checked table of weights that are in `file`, or none; and why. 20 ms.

        A damaged or a foreign table is none, and logged.
        """
        if self._source == "model":
            return None, MODEL_WANTED
        faults = []
        recorded = weights.card.answers if weights.card else None
        own = self._folder / f"{weights.sha256}.npz"
        for path, sha256 in ((table_path(file), recorded), (own, None)):
            try:
                return load_table(path, weights.sha256, sha256), TABLE
            except NoFileError:
                continue
            except WeightsError as error:
                logger.error("the model answers, for want of a table: %s", error)
                faults.append(str(error))
        return None, "; ".join(faults) or NO_TABLE
