"""The files that a version is made of: its weights and, where there are, its card and its table."""

import hashlib
from pathlib import Path
from typing import Literal

from training.proof.answers import MAX_TABLE_SIZE, table_path
from training.weights import MAX_CARD_SIZE, MAX_FILE_SIZE, card_path
from training.weights.untrusted import NoFileError, read_file

Part = Literal["weights", "card", "answers"]

MAX_SIZES: dict[Part, int] = {
    "weights": MAX_FILE_SIZE,
    "card": MAX_CARD_SIZE,
    "answers": MAX_TABLE_SIZE,
}
"""Bytes that each may have."""


def part_path(weights: Path, part: Part) -> Path:
    """Where a file of the version is whose weights are at `weights`."""
    match part:
        case "weights":
            return weights
        case "card":
            return card_path(weights)
        case "answers":
            return table_path(weights)


def read_part(weights: Path, part: Part, table: Path | None = None) -> bytes:
    """Its bytes, unchecked; raises `NoFileError` if it is not there, or `WeightsError`.

    `table` is where the version's answers are, if they are not beside the weights.
    """
    path = table if table and part == "answers" else part_path(weights, part)
    return read_file(path, MAX_SIZES[part])


def hash_part(weights: Path, part: Part, table: Path | None = None) -> str | None:
    """The SHA-256 of what `read_part` gives; `None` if it is not there."""
    try:
        return hashlib.sha256(read_part(weights, part, table)).hexdigest()
    except NoFileError:
        return None
